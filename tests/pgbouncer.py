"""PgBouncer with the file in deploy/pgbouncer/, on a free port of this machine."""

from __future__ import annotations

from pathlib import Path

from bench.cluster import as_postgres
from tests.processes import ROOT, program, replace_all

CONFIGURATION = ROOT / "deploy/pgbouncer/pgbouncer.ini"


def pgbouncer_command(
    directory: Path, port: int, server: int, passwords: dict[str, str], replaced: dict[str, str] | None = None
) -> list[str]:
    """Configure PgBouncer in front of the PostgreSQL server on the port `server`, and return the command that runs it.

    Only ports, paths and the texts in `replaced` are replaced. `passwords` are by role. PostgreSQL's user runs
    PgBouncer, so it must be able to read the directory.
    """
    path = program("pgbouncer", install="apt-get install pgbouncer")
    users, configuration = directory / "userlist.txt", directory / "pgbouncer.ini"
    users.write_text("".join(f'"{role}" "{password}"\n' for role, password in passwords.items()))
    texts = {
        "port=5432": f"port={server}",
        "listen_port = 6432": f"listen_port = {port}",
        "unix_socket_dir = /var/run/postgresql": "unix_socket_dir =",
        "/etc/pgbouncer/userlist.txt": str(users),
        "logfile = /var/log/postgresql/pgbouncer.log\n": "",
        "pidfile = /var/run/postgresql/pgbouncer.pid\n": "",
        **(replaced or {}),
    }
    configuration.write_text(replace_all(CONFIGURATION.read_text(), texts))
    return [*as_postgres(), path, str(configuration)]
