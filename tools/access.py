"""Who may do what: users of the machine, by the configuration and what the journal defines.

The user that the exchange runs as, and root, may do everything; `operators` may look at all and
operate; an account's `users` have that account, and may look at its sub-accounts.
"""

import os
import pwd
from dataclasses import dataclass
from typing import Any

from matchbox.shm.records import Kind
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import Config


@dataclass(frozen=True)
class Access:
    """The rules of one exchange."""

    config: Config
    catalog: Catalog

    @staticmethod
    def owner(uid: int) -> bool:
        return uid in (os.getuid(), 0)

    def operates(self, uid: int) -> bool:
        return self.owner(uid) or uid in self.config.operator_ids

    def own_accounts(self, uid: int) -> set[int]:
        """The accounts that the configuration opens to a user."""
        return {a.number for a in self.config.accounts if uid in a.user_ids}

    def account(self, name: str, uid: int) -> int:
        """The number of the account of this name, if this user may trade for it; else 0."""
        number = self.catalog.named(Kind.ADD_ACCOUNT, name)
        return number if number and (self.owner(uid) or number in self.own_accounts(uid)) else 0

    def accounts(self, uid: int) -> dict[int, dict[str, Any]]:
        """The accounts that a user may look at: all, or those open to it and their subs."""
        own = self.own_accounts(uid)
        return {
            account.number: {
                "number": account.number,
                "name": account.name,
                "parent": account.parent,
            }
            for account in self.catalog.accounts.values()
            if self.operates(uid) or {account.number, account.parent} & own
        }


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
