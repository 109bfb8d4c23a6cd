from __future__ import annotations

import pytest

from workspaces.models import Workspace


@pytest.fixture
def keys_url(workspace: Workspace) -> str:
    return f"/w/{workspace.pk}/settings/developer/api-keys/"
