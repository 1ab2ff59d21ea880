"""INI files as OpenStack's programs read them."""

from collections.abc import Mapping
from pathlib import Path

Sections = Mapping[str, Mapping[str, object]]


def write_ini(path: Path, sections: Sections) -> Path:
    """Write `sections` to `path` and return it; booleans in lower case."""
    lines: list[str] = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        for name, value in settings.items():
            lines.append(f"{name} = {str(value).lower() if isinstance(value, bool) else value}")
    path.write_text("\n".join(lines) + "\n")
    return path
