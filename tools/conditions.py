"""Conditions about log records and events: `matchbox replay-log --break 'EXPRESSION'`.

A small part of Python's expressions: names, numbers, texts, None, and, or, not, comparisons, `in`
with a tuple or list, + - * / // %. There are no calls, attributes, subscripts or anything else, so
an expression can do nothing but be true or not.

Numbers are exact: prices, quantities and amounts are Decimals. What a record or event does not have
is None. A comparison with it is false, but `is None` and `== None`; arithmetic with it is None.
Words such as kinds and sides are compared in any case, with - as _; a word that there is not is
refused, and so is a text where a number is compared.
"""

import ast
import operator
from collections.abc import Callable
from decimal import Context, Decimal, DecimalException, localcontext
from typing import Any

from matchbox.shm.errors import BadArgument
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind, Kind, OrderType, Side, TimeInForce

Values = dict[str, Any]
_LONGEST = 4096
_DEEPEST = 50
# Larger numbers mean nothing here, and would take long.
_LARGEST = Decimal(10) ** 60
# Enough for a product of three such quantities as there are, exactly.
_EXACT = Context(prec=80)


def word(name: str) -> str:
    """A name of an enumeration as it is written here."""
    return name.lower().replace("_", "-")


# What words a name can be; of the others, what type.
_KINDS = sorted({word(k.name) for k in (*Kind, *EventKind) if k.name})
WORDS: dict[str, frozenset[str]] = {
    "what": frozenset(("record", "event")),
    "kind": frozenset(_KINDS),
    "side": frozenset(word(each.name) for each in Side),
    "order_type": frozenset(word(each.name) for each in OrderType),
    "time_in_force": frozenset(word(each.name) for each in TimeInForce),
    "reason": frozenset(word(each.name) for each in Reason),
}
TEXTS = ("account", "maker_account", "market", "client_order_id", "asset", "reference", "time")
NUMBERS = (
    "sequence",
    "timestamp_ns",
    "index",
    "session",
    "account_number",
    "maker_account_number",
    "market_number",
    "order_id",
    "maker_order_id",
    "trade_id",
    "price",
    "quantity",
    "leaves",
    "cumulative",
    "trigger",
    "hold",
    "amount",
    "fee",
    "maker_fee",
    "refused",
)
NAMES = (*WORDS, *TEXTS, *NUMBERS)

_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MEMBER = {ast.In: True, ast.NotIn: False}
_SAME = {ast.Is: True, ast.IsNot: False}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Condition:
    """An expression that is understood. `names`: those of NAMES that it looks at; `kinds`: it is
    false of all others, None if it does not say so.
    """

    def __init__(self, text: str) -> None:
        """Raises BadArgument that says what was wrong and what is allowed."""
        self.text = text
        if len(text) > _LONGEST:
            raise BadArgument(f"the expression is too long: length={len(text)}, maximum={_LONGEST}")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            raise BadArgument(f"not an expression: {text!r}: {what}") from None
        self.names: set[str] = set()
        self._test = self._compile(tree, _DEEPEST)
        self.kinds = _kinds_of(tree)

    def holds(self, values: Values) -> bool:
        """Is it true of these values? What is not among them is None. Raises BadArgument where it
        has no sense, such as a division by zero.
        """
        try:
            with localcontext(_EXACT):
                return bool(self._test(values))
        except (DecimalException, ZeroDivisionError, TypeError) as error:
            what = (
                str(error) if isinstance(error, TypeError) else "a division by zero, or too large"
            )
            raise BadArgument(
                f"the expression has no value at record {values.get('sequence')}: {self.text!r}: "
                f"{what}"
            ) from None

    # ---- reading

    def _compile(self, node: ast.expr, deep: int) -> Callable[[Values], Any]:
        if deep == 0:
            raise self._refused(node, "it is nested too deeply")
        if isinstance(node, ast.Constant):
            constant = self._constant(node)
            return lambda values: constant
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.BoolOp):
            parts = [self._compile(value, deep - 1) for value in node.values]
            every = all if isinstance(node.op, ast.And) else any
            return lambda values: every(part(values) for part in parts)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node, deep)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return self._arithmetic(node, deep)
        if isinstance(node, ast.Compare):
            return self._comparison(node, deep)
        raise self._refused(node, f"{type(node).__name__} is not allowed here")

    def _refused(self, node: ast.AST, why: str) -> BadArgument:
        part = ast.unparse(node)
        return BadArgument(
            f"not understood: {part!r} in {self.text!r}: {why}; allowed: names, numbers, texts, "
            "None, and, or, not, ==, !=, <, <=, >, >=, in, not in, is, + - * / // %, the names: "
            f"{', '.join(NAMES)}"
        )

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return value
        if isinstance(value, int | float):
            number = Decimal(str(value))
            if number.is_finite() and abs(number) <= _LARGEST:
                return number
        raise self._refused(node, "not a number, a text or None")

    def _name(self, node: ast.Name) -> Callable[[Values], Any]:
        name = node.id
        if name not in NAMES:
            raise self._refused(node, f"there is no name {name}")
        self.names.add(name)
        return lambda values: values.get(name)

    def _unary(self, node: ast.UnaryOp, deep: int) -> Callable[[Values], Any]:
        of = self._compile(node.operand, deep - 1)
        if isinstance(node.op, ast.Not):
            return lambda values: not of(values)
        if isinstance(node.op, ast.USub):
            return lambda values: None if (value := of(values)) is None else -_number(value)
        raise self._refused(node, "only `not` and - go before a value")

    def _arithmetic(self, node: ast.BinOp, deep: int) -> Callable[[Values], Any]:
        left, right = (self._compile(side, deep - 1) for side in (node.left, node.right))
        reckon = _ARITHMETIC[type(node.op)]

        def value(values: Values) -> Any:
            a, b = left(values), right(values)
            return None if a is None or b is None else reckon(_number(a), _number(b))

        return value

    def _comparison(self, node: ast.Compare, deep: int) -> Callable[[Values], Any]:
        """`a < b < c` as in Python."""
        sides = [node.left, *node.comparators]
        tests = [
            self._compare(a, op, b, deep)
            for a, op, b in zip(sides, node.ops, node.comparators, strict=False)
        ]
        return lambda values: all(test(values) for test in tests)

    def _compare(
        self, a: ast.expr, op: ast.cmpop, b: ast.expr, deep: int
    ) -> Callable[[Values], bool]:
        self._check_types(a, b)
        words = any(isinstance(side, ast.Name) and side.id in WORDS for side in (a, b))
        left = self._side(a, words, deep)
        if type(op) in _MEMBER:
            if not isinstance(b, ast.Tuple | ast.List | ast.Set):
                raise self._refused(b, "`in` needs a list, such as ('buy', 'sell')")
            chosen = [self._side(each, words, deep) for each in b.elts]
            wanted = _MEMBER[type(op)]

            def member(values: Values) -> bool:
                value = left(values)
                if value is None:
                    return False
                return any(_equal(value, each(values)) for each in chosen) is wanted

            return member
        right = self._side(b, words, deep)
        with_none = any(isinstance(n, ast.Constant) and n.value is None for n in (a, b))
        if type(op) in _SAME and not with_none:
            raise self._refused(b, "`is` goes with None only")
        if with_none:
            same = isinstance(op, ast.Is | ast.Eq)
            if not same and not isinstance(op, ast.IsNot | ast.NotEq):
                raise self._refused(b, "None is neither more nor less than anything")
            return lambda values: (left(values) is right(values)) is same
        compare = _COMPARE[type(op)]

        def test(values: Values) -> bool:
            x, y = left(values), right(values)
            if x is None or y is None:
                return False
            if compare in (operator.eq, operator.ne):
                return _equal(x, y) is (compare is operator.eq)
            return bool(compare(*_comparable(x, y)))

        return test

    def _side(self, node: ast.expr, words: bool, deep: int) -> Callable[[Values], Any]:
        """One side of a comparison; a literal as it is written here if it is one of `words`."""
        if words and isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = word(node.value)
            return lambda values: text
        return self._compile(node, deep - 1)

    def _check_types(self, *sides: ast.expr) -> None:
        """Raises BadArgument where a name is compared with a literal that it can never be."""
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        literals = [
            each.value
            for side in sides
            for each in (side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side])
            if isinstance(each, ast.Constant) and each.value is not None
        ]
        for name in names:
            for value in literals:
                self._check_type(name, value, sides)

    def _check_type(self, name: str, value: Any, sides: tuple[ast.expr, ...]) -> None:
        of = next(side for side in sides if isinstance(side, ast.Name))
        if name in WORDS:
            if not isinstance(value, str) or word(value) not in WORDS[name]:
                words = ", ".join(sorted(WORDS[name]))
                raise BadArgument(f"{name} is never {value!r} in {self.text!r}; allowed: {words}")
        elif name in NUMBERS and isinstance(value, str):
            raise self._refused(of, f"{name} is a number, {value!r} a text")
        elif name in TEXTS and not isinstance(value, str):
            other = f"{name}_number" if f"{name}_number" in NUMBERS else ""
            hint = f"; its number is {other}" if other else ""
            raise self._refused(of, f"{name} is a text, {value} a number{hint}")


def _kinds_of(node: ast.expr) -> frozenset[str] | None:
    """The kinds that an expression names at its top: all others need not be looked at."""
    if isinstance(node, ast.BoolOp):
        found = [_kinds_of(value) for value in node.values]
        named = [kinds for kinds in found if kinds is not None]
        if isinstance(node.op, ast.And):
            return frozenset.intersection(*named) if named else None
        return frozenset.union(*named) if len(named) == len(found) else None
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    left, op, right = node.left, node.ops[0], node.comparators[0]
    if not isinstance(left, ast.Name) or left.id != "kind":
        return None
    each = right.elts if isinstance(right, ast.Tuple | ast.List | ast.Set) else [right]
    words = [
        word(c.value) for c in each if isinstance(c, ast.Constant) and isinstance(c.value, str)
    ]
    named_all = isinstance(op, ast.Eq | ast.In) and len(words) == len(each)
    return frozenset(words) if named_all else None


# ---- values


def _number(value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError(f"{value!r} is a text, not a number")
    return Decimal(value)


def _comparable(x: Any, y: Any) -> tuple[Any, Any]:
    if isinstance(x, str) and isinstance(y, str):
        return x, y
    return _number(x), _number(y)


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, str) and isinstance(y, str):
        return x == y
    if isinstance(x, str) or isinstance(y, str) or y is None:
        return False
    return bool(_number(x) == _number(y))
