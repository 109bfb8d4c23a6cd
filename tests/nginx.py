"""nginx with the files in deploy/nginx/, on free ports of this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, free_port, process, program, wait_until_listening
from tests.sweep import sweep

FILES = ROOT / "deploy/nginx"
INSTALL = "apt-get install nginx openssl"
# nginx's own file, which an operator has already. Debian's includes the files in conf.d/ in the same way.
MAIN = """
{user}
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    include /etc/nginx/mime.types;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {directory}/conf.d/*.conf;
}}
"""


@dataclass
class Nginx:
    http: str
    https: str
    certificate: Path  # of its own authority, for onehorizon.example
    access_log: Path
    error_log: Path
    configuration: Path


@contextmanager
def nginx(directory: Path, servers: Sequence[int], static: Path) -> Iterator[Nginx]:
    """Run nginx in front of web processes on these ports, and yield its URLs.

    Ports, paths and the certificate are replaced, and nothing else.
    """
    path = program("nginx", install=INSTALL)
    http, https = free_port(), free_port()
    certificate = create_certificate(directory)
    configured = directory / "conf.d"
    configured.mkdir()
    access_log, error_log = directory / "access.log", directory / "server.log"
    site = {
        "    listen [::]:80 default_server;\n": "",
        "    listen [::]:443 ssl default_server;\n": "",
        "listen 80 ": f"listen 127.0.0.1:{http} ",
        "listen 443 ": f"listen 127.0.0.1:{https} ",
        "/etc/letsencrypt/live/onehorizon/": f"{directory}/",
        "/opt/onehorizon/staticfiles/": f"{static}/",
        "/var/log/nginx/onehorizon.access.log": str(access_log),
        "/var/log/nginx/onehorizon.error.log": str(error_log),
    }
    upstream = {"    server 127.0.0.1:8000;\n": "".join(f"    server 127.0.0.1:{port};\n" for port in servers)}
    for name, replacements in (("onehorizon.conf", site), ("onehorizon-upstream.conf", upstream)):
        text = (FILES / name).read_text()
        for old, new in replacements.items():
            assert old in text, old
            text = text.replace(old, new)
        (configured / name).write_text(text)
    main = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # whose directories pytest creates
    main.write_text(MAIN.format(directory=directory, user=user))
    sweep.watch(access_log)
    log = directory / "log"
    with process([path, "-e", str(error_log), "-c", str(main)], log) as child:
        wait_until_listening(http, child, log)
        yield Nginx(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", certificate, access_log, error_log, main)


def create_certificate(directory: Path) -> Path:
    """Create a certificate for onehorizon.example in `directory`, under the names that certbot uses."""
    certificate = directory / "fullchain.pem"
    command = [program("openssl", install=INSTALL), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=onehorizon.example", "-addext", "subjectAltName=DNS:onehorizon.example,IP:127.0.0.1"]
    command += ["-keyout", str(directory / "privkey.pem"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate
