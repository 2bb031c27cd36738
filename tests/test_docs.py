"""Every Python block of the README and the docs runs, from top to bottom, on every database."""

import ast
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

import aioboto3
import pytest
import servers
from sybil import Example, Sybil
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[1]
OTHERS = {"extending.md"}  # test_extending.py
PAGES = [
    "README.md",
    *sorted(
        f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md") if page.name not in OTHERS
    ),
]


class Page:
    """Runs blocks in one module, on one event loop, with `await` at the top level as notebooks."""

    def __init__(self, module: ModuleType, runner: asyncio.Runner) -> None:
        self.module = module
        self.runner = runner

    def run(self, example: Example) -> None:
        code: CodeType = compile(
            "\n" * (example.line + example.parsed.line_offset) + example.parsed,
            example.path,
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        if "asyncio.run" in example.parsed:
            exec(code, vars(self.module))
        elif (coroutine := eval(code, vars(self.module))) is not None:
            self.runner.run(coroutine)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    with asyncio.Runner() as runner:
        yield Page(module, runner)


@pytest.fixture
def my_bucket(s3_server: servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard settings of AWS say, and the bucket of the examples."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    async def make() -> None:
        async with aioboto3.Session().client("s3") as client:
            names = [each["Name"] for each in (await client.list_buckets())["Buckets"]]
            if "my-bucket" not in names:
                await client.create_bucket(Bucket="my-bucket")

    asyncio.run(make())


@pytest.mark.usefixtures("my_bucket")
@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_runs(
    name: str, database_url: str, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader copies works, in the order of the page."""
    monkeypatch.setenv("ARTIGRAPH_URL", database_url)
    parser = CodeBlockParser(language="python", evaluator=page.run)
    document: Document = Sybil(parsers=[parser]).parse(ROOT / name)

    for example in document.examples():
        example.evaluate()


def test_the_readme_shows_the_error_that_comes(
    page: Page, capsys: pytest.CaptureFixture[str], my_bucket: None
) -> None:
    """A text block is what the block before it prints."""
    text = (ROOT / "README.md").read_text()
    shown = text.partition("```text\n")[2].partition("```")[0]
    document = Sybil(parsers=[CodeBlockParser(language="python", evaluator=page.run)]).parse(
        ROOT / "README.md"
    )

    for example in document.examples():
        example.evaluate()

    assert capsys.readouterr().out == shown
