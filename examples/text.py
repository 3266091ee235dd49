"""A text run: three questions, three answers.

Start ``python -m batchor_core.testing.openai_server`` in another terminal, then
``OPENAI_API_KEY=any python examples/text.py --base-url http://127.0.0.1:8099/v1``.
"""

from __future__ import annotations

import _arguments

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, SQLiteStorage

QUESTIONS = {
    "sky": "Why is the sky blue?",
    "sea": "Why is the sea salty?",
    "sun": "Why does the sun shine?",
}


def main() -> None:
    """Run it. Started again, it shows the stored answers and asks nobody."""
    options = _arguments.parse(__doc__)
    job = BatchJob(
        items=[BatchItem(item_id=name, payload=question) for name, question in QUESTIONS.items()],
        build_prompt=lambda item: f"Answer in one sentence. {item.payload}",
        provider_config=OpenAIProviderConfig(model="gpt-5-nano", base_url=options.base_url),
    )
    with BatchRunner(storage=SQLiteStorage(path=options.folder / "text.sqlite3")) as runner:
        run = runner.run_and_wait(job, run_id="three-questions")
        for result in run.results():
            print(f"{result.item_id}: {result.output_text or result.error}")


if __name__ == "__main__":
    main()
