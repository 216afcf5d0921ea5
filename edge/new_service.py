"""`nexus new DOMAIN/NAME`: writes a service that passes every check, to be filled with its rules.

It makes the folder `services/DOMAIN/NAME`, its test and its page from the templates in
`services/_new`, and touches nothing that exists. It does not run anything: `make check` does.
"""

import re
from pathlib import Path
from typing import Final

from ops.errors import Rejected

DOMAINS: Final = (
    "identity",
    "content",
    "commerce",
    "ai",
    "finance",
    "logistics",
    "entertainment",
    "platform",
    "specialized",
    "business",
)
_NAME: Final = re.compile(r"[a-z][a-z0-9]{1,20}(?:-[a-z0-9]{1,20}){0,4}")
_TEMPLATES: Final = "services/_new"
_RESERVED: Final = frozenset({"kit", "events", "jobs", "api", "graphql"})


class NewServiceError(Rejected):
    """The service cannot be made; the message says why."""

    code = "new.refused"


def write(root: Path, wanted: str) -> list[Path]:
    """Writes the files of `DOMAIN/NAME` below `root`, the source tree; their paths.

    Raises NewServiceError: a wrong name, or a file that is there already.
    """
    domain, _, name = wanted.partition("/")
    if domain not in DOMAINS:
        raise NewServiceError(f"{domain!r} is no domain: {', '.join(DOMAINS)}")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise NewServiceError(f"{name!r}: lower-case words joined by hyphens, such as gift-card")
    templates = root / _TEMPLATES
    if not templates.is_dir():
        raise NewServiceError("this is written into a source tree: start it in one")
    words = _words(domain, name)
    made = _files(root, domain, name.replace("-", "_"), words["thing"])
    if known := [path for path, _ in made if path.exists() and path.name != "__init__.py"]:
        raise NewServiceError(f"{known[0].relative_to(root)} is there already")
    for path, template in made:
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled((templates / template).read_text(), words) if template else "")
    package = root / "services" / domain / "__init__.py"
    if not package.exists():
        package.write_text(f'"""Services of the domain {domain}."""\n')
    return [path for path, _ in made]


def _words(domain: str, name: str) -> dict[str, str]:
    schema = name.replace("-", "_")
    thing = schema.removesuffix("s") if schema.endswith("s") and len(schema) > 3 else schema
    thing = thing if thing != schema else f"{schema}_entry"
    plain = thing.replace("_", "")
    return {
        "service": name,
        "schema": schema,
        "domain": domain,
        "thing": thing,
        "things": f"{thing.removesuffix('y')}ies" if thing.endswith("y") else f"{thing}s",
        "Thing": "".join(word.capitalize() for word in thing.split("_")),
        "Title": name.replace("-", " ").capitalize(),
        "prefix": (plain[:3] + plain[-2:])[:5],
    }


def _files(root: Path, domain: str, schema: str, thing: str) -> list[tuple[Path, str]]:
    folder = root / "services" / domain / schema
    modules = ("__init__", "service", "api", "store", "routes")
    return [
        *((folder / f"{module}.py", f"{module}.py.txt") for module in modules),
        (folder / "migrations" / f"0001_create_{thing}.sql", "0001_create_thing.sql.txt"),
        (root / "tests/services" / schema / f"test_{schema}.py", "test_thing.py.txt"),
        (root / "docs/services" / f"{schema.replace('_', '-')}.md", "page.md.txt"),
    ]


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], text)
