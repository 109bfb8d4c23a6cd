"""nginx with the files in deploy/nginx/, on free ports of this machine."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, free_port, process, program, replace_all, wait_until_listening
from tests.sweep import sweep

SITE, UPSTREAM = ROOT / "deploy/nginx/onehorizon.conf", ROOT / "deploy/nginx/onehorizon-upstream.conf"
HOST = "onehorizon.example"
INSTALL = "apt-get install nginx openssl"
# As Debian's nginx.conf, it includes conf.d. Only root can read pytest's directories if root runs the tests.
MAIN = """
{user}
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
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
    port: int  # of http
    tls_port: int
    directory: Path

    @property
    def tls(self) -> ssl.SSLContext:
        """Accepts nginx's certificate."""
        return ssl.create_default_context(cafile=str(self.directory / "fullchain.pem"))

    @property
    def access_log(self) -> str:
        return (self.directory / "access.log").read_text()


@contextmanager
def nginx(directory: Path, server: int, static: Path, replaced: dict[str, str] | None = None) -> Iterator[Nginx]:
    """Run nginx in front of the web processes on the port `server`, with the files of deploy/nginx/.

    Only their ports, their paths and the texts in `replaced` are replaced.
    """
    path = program("nginx", install=INSTALL)
    running = Nginx(free_port(), free_port(), directory)
    site = {
        "    listen [::]:80 default_server;\n": "",
        "    listen [::]:443 ssl default_server;\n": "",
        "listen 80 ": f"listen 127.0.0.1:{running.port} ",
        "listen 443 ": f"listen 127.0.0.1:{running.tls_port} ",
        "/etc/letsencrypt/live/onehorizon/": f"{directory}/",
        "/opt/onehorizon/staticfiles/": f"{static}/",
        "/var/log/nginx/": f"{directory}/",
        **(replaced or {}),
    }
    create_certificate(directory)
    (directory / "conf.d").mkdir()
    for file, texts in ((SITE, site), (UPSTREAM, {"127.0.0.1:8000": f"127.0.0.1:{server}"})):
        (directory / "conf.d" / file.name).write_text(replace_all(file.read_text(), texts))
    main = directory / "nginx.conf"
    main.write_text(MAIN.format(directory=directory, user="user root;" if os.geteuid() == 0 else ""))
    sweep.watch(directory / "access.log")
    sweep.watch(directory / "error.log")
    log = directory / "log"
    with process([path, "-e", str(directory / "error.log"), "-c", str(main)], log) as child:
        wait_until_listening(running.port, child, log)
        yield running


def create_certificate(directory: Path) -> None:
    """Create a certificate for `HOST` and this machine, with the file names of certbot."""
    command = [program("openssl", install=INSTALL), "req", "-x509", "-nodes", "-newkey", "ec"]
    command += [
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        f"/CN={HOST}",
        "-addext",
        f"subjectAltName=DNS:{HOST},IP:127.0.0.1",
    ]
    command += ["-keyout", str(directory / "privkey.pem"), "-out", str(directory / "fullchain.pem")]
    subprocess.run(command, check=True, capture_output=True)
