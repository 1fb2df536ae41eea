"""The keys that the vault encrypts with: those in the configuration, else one in a file beside the database.

A key is a Fernet key (https://cryptography.io/en/latest/fernet/): 32 bytes in URL-safe base64.
"""

import os
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from pydantic import SecretStr

from schemas import ProviderDown

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

HOW_TO_MAKE_ONE = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


def listed(text: str) -> list[str]:
    """The keys in a text, comma-separated. Raises ValueError, which never repeats them."""
    keys = [key.strip() for key in text.split(",")]
    if not all(map(_KEY.fullmatch, keys)):
        raise ValueError(f"must be Fernet keys, comma-separated, newest first; make one with: {HOW_TO_MAKE_ONE}")
    return keys


class KeyRing:
    """Encrypts with the newest key, decrypts with any.

    Without a `given` one, the key in `file`, which is made when something is first encrypted: a ring that is never
    used leaves nothing behind.
    """

    def __init__(self, given: SecretStr | None, file: Path) -> None:
        self._given = given
        self._file = file
        self._known: MultiFernet | None = None

    async def encrypt(self, data: bytes, at: int) -> str:
        """The data as a Fernet token made at that second of the epoch. Raises ProviderDown if there can be no key."""
        keys = await self._keys(make=True)
        assert keys is not None  # noqa: S101 - for the type checker
        return keys.encrypt_at_time(data, at).decode()

    async def decrypt(self, token: str) -> bytes | None:
        """What was encrypted; None if it was with a key that is not here, or if it was changed."""
        from cryptography.fernet import InvalidToken

        keys = await self._keys(make=False)
        if keys is None:
            return None
        try:
            return keys.decrypt(token.encode())
        except InvalidToken:
            return None

    async def _keys(self, *, make: bool) -> "MultiFernet | None":
        if self._known is None:
            # Imported here: only accounts that were connected in a browser need it.
            from cryptography.fernet import Fernet, MultiFernet

            if self._given is not None:
                keys = listed(self._given.get_secret_value())
            else:
                keys = await anyio.to_thread.run_sync(partial(_in_file, self._file, make=make))
            self._known = MultiFernet([Fernet(key) for key in keys]) if keys else None
        return self._known


def _in_file(file: Path, *, make: bool) -> list[str]:
    """The keys in that file, made if need be; none if there is no such file."""
    try:
        if make and not file.exists():
            _make(file)
        return listed(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return []
    except OSError as error:
        what = f"The file {file.name} beside the gateway's database, with the key to what it keeps secret, cannot be "
        raise ProviderDown(f"{what}used: {error.strerror}. Mend that, or set `storage.encryption_key`.") from None
    except ValueError:  # the error would quote what is in the file
        what = f"The file {file.name} beside the gateway's database should hold the key to what it keeps secret, "
        raise ProviderDown(f"{what}and holds something else. Restore it, or set `storage.encryption_key`.") from None


def _make(file: Path) -> None:
    """Put a new key into that file, which no other process ever sees empty and of which the first one stays."""
    from cryptography.fernet import Fernet

    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # For this user alone (0600) from the beginning: so does mkstemp.
    descriptor, draft = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(Fernet.generate_key() + b"\n")
            written.flush()
            os.fsync(descriptor)
        os.link(draft, file)
    except FileExistsError:
        pass  # another process was faster; its key holds
    finally:
        os.unlink(draft)
