"""Passwords and signing keys, derived from one secret of the stack.

Nothing is drawn at random while the program runs, so a retry, a lost state or a second operator makes the same ones, and a
rotation is a number in the site file. The secret is the stack's configuration ``pfmoc:seed``, encrypted as the stack's secrets
are: with the stack's settings or their passphrase it is lost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

import pulumi

SEED_BYTES = 32


@dataclass(frozen=True)
class Keys:
    """What is derived from a seed.

    :param seed: a secret output: at least 32 random bytes, in any notation
    """

    seed: pulumi.Output[str]

    @classmethod
    def of_stack(cls, config: pulumi.Config) -> Keys:
        """Read the stack's seed.

        :raises pulumi.RunError: when there is none
        """
        seed = config.get_secret("seed")
        if seed is None:
            raise pulumi.RunError(
                "the stack has no seed, from which passwords and signing keys are derived; make one:"
                f" openssl rand -hex {SEED_BYTES} | pulumi config set --secret pfmoc:seed"
            )
        return cls(seed)

    def derive(self, *purpose: str | int) -> pulumi.Output[str]:
        """A secret of 256 bits for a purpose: letters, digits, ``-`` and ``_``."""
        return pulumi.Output.secret(self.seed.apply(lambda seed: derived(seed, labelled(*purpose))))


def labelled(*purpose: str | int) -> str:
    """The label of a purpose."""
    return "\0".join(str(part) for part in purpose)


def derived(seed: str, label: str) -> str:
    """HMAC-SHA-256 of a label, in URL-safe Base64."""
    digest = hmac.new(seed.encode(), label.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
