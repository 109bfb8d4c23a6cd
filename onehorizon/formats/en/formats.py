"""How the admin shows times, such as `2026-11-26 18:03:21 UTC`. Pages use `workspaces.templatetags.moments`."""

DATETIME_FORMAT = "Y-m-d H:i:s T"
