"""TLS for the gRPC server: a listener shows one pair for life, so changed files get a listener of their own.

gRPC can be asked for the pair of each handshake instead, but then frees the old one under the handshakes of
other threads, which ends the process (grpc/grpc#36693).
"""

from __future__ import annotations

import grpc

from engine.security.certificates import TlsFiles


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a listener. TLS 1.2 is the least that gRPC takes."""
    credentials: grpc.ServerCredentials = grpc.ssl_server_credentials(
        [(files.key, files.certificate)],
        root_certificates=files.client_ca,
        require_client_auth=files.client_ca is not None,
    )
    return credentials
