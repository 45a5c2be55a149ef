"""A ZooKeeper server with TLS and SASL, and the options of its clients."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization

from certificates.making import Authority
from programs import free_port
from zookeeper.servers import NETTY, require_zookeeper, standalone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zookeeper.servers import ZooKeeperServer

USERNAME, PASSWORD = "bob", "a secret"
ACL = f"sasl:{USERNAME}:cdrwa"

HOST = "127.0.0.1"
"""The one name that the server's certificate is for."""


class SecureServer:
    """A server with a plain port, and a TLS port that requires client certificates.

    Its users are in a JAAS file; clients that authenticate must be among them.
    """

    def __init__(self, server: ZooKeeperServer, authority: Authority, jaas: Path) -> None:
        self.server = server
        self.authority = authority
        self._jaas = jaas
        self.certfile, self.keyfile = authority.issue("client")
        self.port = server.configuration["secureClientPort"]
        self.address = f"{HOST}:{self.port}"
        self.password_file = jaas.parent / "password"
        self.password_file.write_text(f"{PASSWORD}\n")

    def set_password(self, password: str) -> None:
        """Change the user's password, from the server's next start on."""
        write_jaas(self._jaas, password)

    @property
    def tls(self) -> dict[str, Any]:
        """The TLS arguments of a client."""
        return {
            "use_ssl": True,
            "ca": str(self.authority.path),
            "certfile": str(self.certfile),
            "keyfile": str(self.keyfile),
        }

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a client that the server accepts."""
        return {**self.tls, "sasl_options": sasl()}

    @property
    def texts(self) -> dict[str, str]:
        """The same as text, with an ACL for new nodes."""
        return {
            "ca": str(self.authority.path),
            "certfile": str(self.certfile),
            "keyfile": str(self.keyfile),
            "sasl-username": USERNAME,
            "sasl-password-file": str(self.password_file),
            "default-acl": ACL,
        }

    @property
    def lines(self) -> str:
        """The same as lines of a section."""
        return "\n".join(f"{name} {value}" for name, value in self.texts.items())

    @property
    def section(self) -> str:
        """The same as a section."""
        return f"<zookeeper-options>\n{self.lines}\n</zookeeper-options>"


def sasl(password: str = PASSWORD) -> dict[str, str]:
    """Return the SASL argument of a client."""
    return {"mechanism": "DIGEST-MD5", "username": USERNAME, "password": password}


def write_jaas(path: Path, password: str) -> None:
    """Write the file with the server's users."""
    path.write_text(
        "Server {\n    org.apache.zookeeper.server.auth.DigestLoginModule required\n"
        f'    user_{USERNAME}="{password}";\n}};\n'
    )


@contextlib.contextmanager
def secure(directory: Path, password: str = PASSWORD) -> Iterator[SecureServer]:
    """Run a server while the block runs."""
    require_zookeeper(*NETTY)
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority(directory, "good")
    certificate, key = authority.issue(HOST)
    # Java does not read other formats of unencrypted keys.
    store = directory / "server-with-key.pem"
    store.write_bytes(pkcs8(key) + certificate.read_bytes())
    jaas = directory / "jaas.conf"
    write_jaas(jaas, password)
    configuration: dict[str, object] = {
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "secureClientPort": free_port(),
        "secureClientPortAddress": HOST,
        "ssl.keyStore.location": store,
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": authority.path,
        "ssl.trustStore.type": "PEM",
        "ssl.clientAuth": "need",
        "authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
    }
    java = [f"-Djava.security.auth.login.config={jaas}"]
    with standalone(directory, java, **configuration) as server:
        yield SecureServer(server, authority, jaas)


def pkcs8(key: Path) -> bytes:
    """Return a private key in PKCS #8 format."""
    return serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
