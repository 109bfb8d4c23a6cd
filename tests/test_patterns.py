"""Patterns that the code must not contain, beyond ruff's security rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from onehorizon.checks import routes
from tests.processes import ROOT

APPS = ("core", "workspaces", "apikeys", "oauth", "onehorizon")
MODULES = [file for app in APPS for file in (ROOT / app).rglob("*.py") if file.parent.name != "migrations"]
TEMPLATES = list((ROOT / "templates").rglob("*.html"))


def relative_path(file: Path) -> str:
    return str(file.relative_to(ROOT))


# ---- Python ----

RUNS_SQL = {"execute", "executemany", "raw", "extra", "RawSQL", "fetch", "fetch_prepared"}
KNOWN = {
    "core/db/operations.py",  # quotes the name of an index
    "core/db/postgresql/schema.py",  # passes on the statements of migrations
    "core/db/sqlite/base.py",  # passes statements on to Django's cursor
    "core/db/statements.py",  # `fetch` runs the constants that it receives
    "workspaces/management/operators.py",  # `execute` is a method of Django's commands here
    "workspaces/task_pages.py",  # joins conditions that contain only names of columns and parameters
}


def is_constant(node: ast.expr) -> bool:
    """Return whether this is a literal or a module constant: `STATEMENT` or `_STATEMENTS[connection.vendor]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == name.upper()
    return False


def non_constant_sql(source: str) -> list[str]:
    """Return the SQL statements that are not constants. Values could be interpolated into them."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    runs = [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) in RUNS_SQL]
    return [ast.unparse(call.args[0]) for call in runs if not is_constant(call.args[0])]


def test_sql_is_constant_and_values_are_parameters() -> None:
    assert {relative_path(file) for file in MODULES if non_constant_sql(file.read_text())} == KNOWN


@pytest.mark.parametrize(
    "statement",
    [
        "f'SELECT * FROM t WHERE a = {value}'",
        "'SELECT * FROM t WHERE a = %s' % value",
        "'DELETE FROM t WHERE a = ' + value",
        "STATEMENT.format(a=value)",
        "statement",
    ],
)
def test_sql_that_is_not_constant_is_detected(statement: str) -> None:
    assert non_constant_sql(f"cursor.execute({statement}, [])") == [statement]
    assert non_constant_sql("cursor.execute(STATEMENTS[connection.vendor], [value])") == []


def test_every_exception_from_the_security_rules_is_listed() -> None:
    """To add a `noqa: S…`, list it here with the reason why it is safe."""
    exceptions = {
        (relative_path(file), code)
        for file in MODULES
        for code in re.findall(r"noqa:[^\n]*?\b(S\d+)", file.read_text())
    }

    assert exceptions == {
        ("apikeys/admission.py", "S608"),  # names of columns, and parts of statements
        ("apikeys/models/usage.py", "S608"),  # parts of statements
        ("workspaces/models/audit.py", "S105"),  # names of actions that contain "token" or "password"
        ("workspaces/quota/sql.py", "S608"),
        ("workspaces/task_pages.py", "S608"),
    }


# ---- templates ----

FORM = re.compile(r"<form\b[^>]*>.*?</form>", re.DOTALL)
UNSAFE = {
    "unescaped": re.compile(r"\|\s*safe(seq)?\b|{%\s*autoescape\s+off|{%\s*filter\s+safe"),
    "inline script": re.compile(r"<script\b(?![^>]*\bsrc=)|\son[a-z]+\s*=|javascript:", re.IGNORECASE),
    "inline style": re.compile(r"<style\b|\sstyle\s*=", re.IGNORECASE),
    "translated code": re.compile(r"<(code|pre|output)\b(?![^>]*\btranslate=\"no\")", re.IGNORECASE),
    "another host": re.compile(r"<(script|link|img|iframe)\b[^>]*(src|href)=[\"'](https?:)?//", re.IGNORECASE),
}


def violations(template: str) -> list[str]:
    template = re.sub(r"{#.*?#}", "", template)
    names = [name for name, pattern in UNSAFE.items() if pattern.search(template)]
    for form in FORM.findall(template):
        is_post = re.match(r"<form\b[^>]*\bmethod=[\"']?post", form, re.IGNORECASE) is not None
        if is_post and "{% csrf_token %}" not in form:
            names.append("form without a CSRF token")
        if not is_post and "{% csrf_token %}" in form:
            names.append("CSRF token in a URL")
    return names


@pytest.mark.parametrize("file", TEMPLATES, ids=relative_path)
def test_templates_escape_values_and_have_csrf_tokens_and_no_inline_code(file: Path) -> None:
    assert violations(file.read_text()) == []


@pytest.mark.parametrize(
    ("template", "violation"),
    [
        ("{{ name|safe }}", "unescaped"),
        ("{% autoescape off %}", "unescaped"),
        ("<script>go()</script>", "inline script"),
        ('<a onclick="go()">', "inline script"),
        ('<p style="color: red">', "inline style"),
        ('<script src="https://cdn.example/x.js"></script>', "another host"),
        ("<code>{{ api_key.masked }}</code>", "translated code"),
        ('<form method="post"><button></form>', "form without a CSRF token"),
        ("<form>{% csrf_token %}</form>", "CSRF token in a URL"),
    ],
)
def test_an_unsafe_template_is_detected(template: str, violation: str) -> None:
    assert violation in violations(template)


# ---- pages ----


def pages() -> dict[str, Any]:
    """Return the routes outside the API and their views."""
    return {route: view for route, view in routes(get_resolver(), "") if not re.match(r"\^?api\b", route)}


def example_path(route: str) -> str:
    """Return a path that matches the route."""
    filled = re.sub(r"<(\w+:)?\w+>", "1", route)
    return "/" + re.sub(r"\(\?P?[^)]*\)[*+?]?|\\Z|\\|[\^$]", "", filled)


def test_only_endpoints_for_clients_without_a_browser_are_csrf_exempt() -> None:
    exempt = {route for route, view in pages().items() if getattr(view, "csrf_exempt", False)}

    assert exempt == {"app/auth/token", "app/auth/revoke", "app/auth/device"}


OPEN_TO_ALL = {
    "/",  # redirects to a page that requires sign-in
    "/.well-known/change-password",  # the same
    "/docs/",
    "/docs/1/",
    "/sign-in/",
    "/sign-out/",
    "/admin/login/",
    "/admin/logout/",
    "/app/auth/authorize",  # rejects an invalid request before sign-in
    "/app/auth/token",
    "/app/auth/revoke",
    "/app/auth/device",  # a terminal sends a POST here
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/api/v1",
    "/.well-known/security.txt",
}


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_other_page_requires_sign_in(method: str, client: Client) -> None:
    open_paths = set()
    for route in pages():
        response = getattr(client, method)(example_path(route))
        assert response.status_code < 500, route
        location = response.headers.get("Location", "")
        if not (response.status_code == 302 and location.startswith(("/sign-in/?next=", "/admin/login/?next="))):
            open_paths.add(example_path(route))

    assert open_paths <= OPEN_TO_ALL, open_paths - OPEN_TO_ALL
