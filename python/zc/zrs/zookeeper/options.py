"""How to connect to ZooKeeper, as text: TLS, SASL and ACLs in sections, URIs and commands.

The names are those of the arguments of `kazoo.client.KazooClient`, except for the parts of
``sasl_options`` and for the secrets, each of which can be in a file. Kazoo is required only
with ZooKeeper, so this module imports it only to parse an ACL.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FLAGS = ("use-ssl", "verify-certs", "check-hostname")
FILES = ("ca", "certfile", "keyfile")
LISTS = ("auth-data", "auth-data-file", "default-acl")
NAMES = (
    *FLAGS,
    *FILES,
    "keyfile-password",
    "keyfile-password-file",
    "sasl-mechanism",
    "sasl-username",
    "sasl-password",
    "sasl-password-file",
    *LISTS,
)
"""The options, as ZConfig and the command line spell them."""

SASL_MECHANISM = "DIGEST-MD5"
"""The default mechanism if a user name is given."""

TRUE, FALSE = ("yes", "true", "on"), ("no", "false", "off")
"""ZConfig's booleans, which are not case-sensitive."""

PERMISSIONS = {"c": "create", "r": "read", "w": "write", "d": "delete", "a": "admin"}


def kazoo_options(texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the arguments of a kazoo client for options.

    :param texts: the values of each of the `NAMES` that is given

    Options of TLS enable TLS. Raises `ValueError`, with the option's name, for invalid values.
    """
    for name, values in texts.items():
        if name not in NAMES:
            raise ValueError(f"unknown option {name}")
        if len(values) > 1 and name not in LISTS:
            raise ValueError(f"{name} is given {len(values)} times")
    one = {name: values[0] for name, values in texts.items() if name not in LISTS}
    many = {name: texts.get(name, ()) for name in LISTS}
    options: dict[str, Any] = {**_tls(one)}
    if sasl := _sasl(one):
        options["sasl_options"] = sasl
    if auth_data := _auth_data(many):
        options["auth_data"] = auth_data
    if many["default-acl"]:
        options["default_acl"] = [_acl(line) for line in many["default-acl"]]
    return options


def _tls(one: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in FLAGS:
        if name in one:
            options[_argument(name)] = _converted(name, _boolean, one[name])
    for name in FILES:
        if name in one:
            options[name] = _converted(name, _existing, one[name])
    if (password := _secret(one, "keyfile-password")) is not None:
        options["keyfile_password"] = password
    if options:
        options.setdefault("use_ssl", True)
    return options


def _sasl(one: Mapping[str, str]) -> dict[str, str]:
    mechanism, username = one.get("sasl-mechanism"), one.get("sasl-username")
    password = _secret(one, "sasl-password")
    if password is not None and username is None:
        raise ValueError("sasl-password requires sasl-username")
    if username is not None and password is None:
        raise ValueError("sasl-username requires sasl-password or sasl-password-file")
    if mechanism is None and username is None:
        return {}
    options = {"mechanism": mechanism or SASL_MECHANISM}
    if username is not None and password is not None:
        options |= {"username": username, "password": password}
    return options


def _auth_data(many: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    lines = list(many["auth-data"])
    for path in many["auth-data-file"]:
        lines += _converted("auth-data-file", _read, path).splitlines()
    auth_data = []
    for line in lines:
        scheme, _, credential = line.strip().partition(" ")
        if not credential:
            raise ValueError("auth-data is not SCHEME CREDENTIAL")  # the line is a secret
        auth_data.append((scheme, credential.strip()))
    return auth_data


def _acl(line: str) -> Any:
    """Return the ACL of ``SCHEME:ID:PERMISSIONS``, in the format of ZooKeeper's setAcl."""
    from kazoo.security import make_acl  # noqa: PLC0415 -- see the module's beginning

    scheme, _, rest = line.strip().partition(":")
    identity, colon, letters = rest.rpartition(":")
    if not scheme or not colon or not letters or not set(letters) <= set(PERMISSIONS):
        raise ValueError(
            f"default-acl {line} is not SCHEME:ID:PERMISSIONS, with permissions of"
            f" {''.join(PERMISSIONS)}"
        )
    return make_acl(scheme, identity, **{PERMISSIONS[letter]: True for letter in letters})


def _secret(one: Mapping[str, str], name: str) -> str | None:
    path = one.get(f"{name}-file")
    if path is None:
        return one.get(name)
    if name in one:
        raise ValueError(f"{name} and {name}-file cannot be combined")
    text: str = _converted(f"{name}-file", _read, path)
    return text.rstrip("\r\n")


def _boolean(text: str) -> bool:
    lower = text.lower()
    if lower not in (*TRUE, *FALSE):
        raise ValueError(f"not a valid boolean value: {text!r}")
    return lower in TRUE


def _existing(path: str) -> str:
    _read_bytes(path)
    return path


def _read(path: str) -> str:
    return _read_bytes(path).decode()


def _read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def _converted(name: str, convert: Callable[[str], Any], text: str) -> Any:
    try:
        return convert(text)
    except (ValueError, OSError) as error:
        raise ValueError(f"{name} {text}: {error}") from error


def _argument(name: str) -> str:
    return name.replace("-", "_")


def from_section(section: Any) -> dict[str, Any]:
    """Return the arguments of a kazoo client for a section of ZConfig."""
    texts: dict[str, Sequence[str]] = {}
    for name in NAMES:
        value = getattr(section, _argument(name))
        if value:
            texts[name] = value if isinstance(value, list) else [value]
    return kazoo_options(texts)
