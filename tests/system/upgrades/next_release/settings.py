from onehorizon.settings import *  # noqa: F403
from onehorizon.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.system.upgrades.next_release"]
