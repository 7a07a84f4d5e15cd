"""TLS for the gRPC server, from files that may change: each handshake uses the last good ones."""

from __future__ import annotations

import grpc

from engine.security.certificates import TlsFiles
from engine.security.keeping import Kept


def server_credentials(files: Kept[TlsFiles]) -> grpc.ServerCredentials:
    """Credentials that follow the files. TLS 1.2 is the least that gRPC takes."""
    follower = _Follower(files)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        follower.first,
        follower.changed,  # type: ignore[arg-type]  # None is no change, which the stubs do not know
        require_client_authentication=files.current.client_ca is not None,
    )
    return credentials


class _Follower:
    """Gives gRPC a configuration when the files have changed, which it asks for at each handshake."""

    def __init__(self, files: Kept[TlsFiles]) -> None:
        self._files = files
        self._given = files.current
        self.first = _configuration(self._given)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration of now; None where it is the one given last."""
        files = self._files.current
        if files is self._given:
            return None
        self._given = files
        return _configuration(files)


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=files.client_ca
    )
