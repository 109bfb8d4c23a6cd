"""The commands in docs/terminal.md."""

import re
import subprocess

from apikeys.models import ApiKey
from tests.helpers import commits
from tests.oauth.conftest import Browser
from tests.processes import ROOT
from workspaces.models import User, Workspace

BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/terminal.md").read_text(), re.MULTILINE | re.DOTALL)


@commits
def test_every_command_in_the_document_works(site: str, owner: User, workspace: Workspace) -> None:
    browser = Browser(site, owner)
    blocks = [block.replace("https://onehorizon.ai", site) for block in BLOCKS]
    shell = subprocess.Popen(["bash", "-eu"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with shell, browser.session:
        assert shell.stdin
        assert shell.stdout
        prompt = next(number for number, block in enumerate(blocks) if "Open this" in block)
        print(*blocks[: prompt + 1], sep="\n", file=shell.stdin, flush=True)
        user_code = shell.stdout.readline().strip().partition("user_code=")[2]
        browser.decide_device(user_code, allow="yes")
        print(*blocks[prompt + 1 :], sep="\n", file=shell.stdin, flush=True)
        shell.stdin.close()
        output = shell.stdout.read()

    assert shell.returncode == 0
    assert '"kind":"user"' in output
    assert '"tasks":[]' in output
    assert ApiKey.objects.get().description == "Created in a terminal"
