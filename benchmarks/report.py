"""A benchmark's JSON, and the tables made from it.

- `write(path, result)`: small JSON, by atomic rename.
- `table(result)`: Markdown; losing rows stay.
- `renew(readme, name, text)`: replace what stands between the marks of `name`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from minirelu.files import write_atomically


def write(path: Path, result: dict[str, Any]) -> None:
    """Write `result` as indented JSON."""
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    text = re.sub(r"\[[^][{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)  # lists of numbers on one line
    write_atomically(path, lambda file: file.write(text.encode()))


def table(result: dict[str, Any]) -> str:
    """One row a net and candidate: median and fastest time, the ratio to the base, and ours to it, with their intervals."""
    about = result["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items() if version)
    lines = [
        f"| net | candidate | median µs | fastest µs | ratio to {result['base']} [95 %] | minirelu ÷ it [95 %] |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in result["rows"]:
        name = f"**{row['candidate']}**" if row["candidate"] == "minirelu" else row["candidate"]
        ratio, ours = (f"{row[of]:.2f} [{row[f'{of}_low']:.2f}, {row[f'{of}_high']:.2f}]" for of in ("ratio", "ours"))
        lines.append(f"| {row['net']} | {name} | {row['median_us']:.0f} | {row['fastest_us']:.0f} | {ratio} | {ours} |")
    lines.append(
        f"\n{about['date']}; {about['processor']}, one thread; {about['python']}, {libraries}; "
        f"{result['rounds']} interleaved rounds."
    )
    return "\n".join(lines)


def renew(readme: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- benchmark NAME -->` and `<!-- end -->` in `readme`."""
    old = readme.read_text()
    pattern = re.compile(rf"(<!-- benchmark {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(old):
        raise ValueError(f"{readme} has no marks <!-- benchmark {name} --> … <!-- end -->")
    new = pattern.sub(lambda match: f"{match[1]}{text}\n{match[2]}", old)
    write_atomically(readme, lambda file: file.write(new.encode()))
