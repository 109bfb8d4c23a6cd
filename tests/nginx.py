"""nginx with the files in deploy/nginx/, on free ports of this machine."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster import children
from tests.processes import ROOT, free_port, process, program, replace_all, wait_until, wait_until_listening
from tests.sweep import sweep

SITE, UPSTREAM = ROOT / "deploy/nginx/onehorizon.conf", ROOT / "deploy/nginx/onehorizon-upstream.conf"
HOST = "onehorizon.example"
ONE_HOST = "    server 127.0.0.1:8000 max_fails=0;\n" * 2  # in UPSTREAM, which says what several hosts need instead
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
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def tls(self) -> ssl.SSLContext:
        """Accepts nginx's certificate."""
        return ssl.create_default_context(cafile=str(self.directory / "fullchain.pem"))

    @property
    def access_log(self) -> str:
        return (self.directory / "access.log").read_text()

    def write_upstream(self, ports: list[int], down: int | None = None) -> None:
        """Write the file with the web hosts. The host with the port `down` gets no new requests."""
        replaced = {"127.0.0.1:8000": f"127.0.0.1:{ports[0]}"}
        if len(ports) > 1:
            lines = [f"    server 127.0.0.1:{port}{' down' * (port == down)};\n" for port in ports]
            replaced = {ONE_HOST: "".join(lines)}
        (self.directory / "conf.d" / UPSTREAM.name).write_text(replace_all(UPSTREAM.read_text(), replaced))

    def reload(self) -> None:
        """Load the configuration. Return when no process with the one before accepts connections."""
        before = set(children(self.process.pid))
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & set(children(self.process.pid)))


@contextmanager
def nginx(directory: Path, ports: list[int], static: Path, replaced: dict[str, str] | None = None) -> Iterator[Nginx]:
    """Run nginx in front of the web hosts with these ports, with the files of deploy/nginx/.

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
    (directory / "conf.d" / SITE.name).write_text(replace_all(SITE.read_text(), site))
    running.write_upstream(ports)
    main = directory / "nginx.conf"
    main.write_text(MAIN.format(directory=directory, user="user root;" if os.geteuid() == 0 else ""))
    sweep.watch(directory / "access.log")
    sweep.watch(directory / "error.log")
    log = directory / "log"
    with process([path, "-e", str(directory / "error.log"), "-c", str(main)], log) as child:
        wait_until_listening(running.port, child, log)
        running.process = child
        yield running


def create_certificate(directory: Path) -> None:
    """Create a certificate for `HOST` and this machine, with the file names of certbot."""
    command = [program("openssl", install=INSTALL), "req", "-x509", "-nodes", "-newkey", "ec"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={HOST}"]
    command += ["-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1"]
    command += ["-keyout", str(directory / "privkey.pem"), "-out", str(directory / "fullchain.pem")]
    subprocess.run(command, check=True, capture_output=True)
