"""`mofang chat`: talk with a language model in the terminal; tokens, cost and speed after every turn."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import click

from mofang.base.domain.errors import MofangError
from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import verb

if TYPE_CHECKING:
    from mofang.surface.sdk.bill import PriceBook
    from mofang.surface.sdk.chat import Turn

HELP = (
    ("/system TEXT", "begin anew, with this system message"),
    ("/clear", "begin anew"),
    ("/again", "have the last message answered once more"),
    ("/history", "show the conversation"),
    ("/help", "show this"),
    ("/quit", "leave; so does Ctrl-D"),
)


@verb(
    "chat",
    example='mofang chat smol\nmofang chat smol "What is the capital of France?" --max-tokens 64',
    json="With a MESSAGE one object: text, finish, input_tokens, cached_tokens, output_tokens, seconds, first_seconds, "
    "tokens_per_second, cost_micros, currency (both null without prices), request_id, model.",
)
@click.argument("endpoint")
@click.argument("message", default="")
@click.option("--system", default="", metavar="TEXT", help="A system message to begin with.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens of an answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0: always the likeliest word.")
@click.pass_obj
def chat(
    session: Session, endpoint: str, message: str, system: str, max_tokens: int | None, temperature: float | None
) -> None:
    """Talk with the language model behind ENDPOINT; with a MESSAGE, only say that and show the answer.

    Ctrl-C stops an answer, and only what was said until then is paid for.
    """
    talk = Talk(session, endpoint, {"max_tokens": max_tokens, "temperature": temperature})
    talk.begin(system)
    if message:
        turn = talk.say(message, shown=not session.as_json)
        session.answer(talk.account(turn), lambda: None)
        return
    if sys.stdin.isatty():
        screen.say(f"talking with {endpoint}; /help shows what can be said to me")
    for line in _lines():
        if not talk.hear(line.strip()):
            return


@dataclass
class Talk:
    """A conversation, and what belongs to it."""

    session: Session
    endpoint: str
    wishes: dict[str, Any]
    messages: list[dict[str, str]] = field(default_factory=list)
    prices: dict[str, tuple[int, int]] | None = None  # meter: micros, per; None: not asked yet
    currency: str = ""

    def begin(self, system: str = "") -> None:
        """Begin anew."""
        self.messages = [{"role": "system", "content": system}] if system else []

    def hear(self, line: str) -> bool:
        """Do what a line asks; tell whether the conversation goes on."""
        word, _, rest = line.partition(" ")
        match word:
            case "":
                return True
            case "/quit" | "/exit":
                return False
            case "/help":
                screen.fields(HELP)
            case "/clear":
                self.begin()
            case "/system":
                self.begin(rest)
            case "/history":
                screen.fields((each["role"], each["content"]) for each in self.messages)
            case "/again":
                self._again()
            case _ if word.startswith("/"):
                screen.say(f"there is no {word}; /help shows what there is", err=True)
            case _:
                self._try(line)
        return True

    def say(self, text: str, *, shown: bool) -> Turn:
        """Say ``text`` and return the answer; write it as it comes if it is to be ``shown``."""
        turn = self.session.client.chat.say(
            self.endpoint, [*self.messages, {"role": "user", "content": text}], **self.wishes
        )
        stopped = False
        try:
            for piece in turn:
                if shown:
                    click.echo(piece, nl=False)
        except KeyboardInterrupt:
            stopped = True
        finally:
            if shown and turn.text:
                click.echo()
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": turn.text}]
        if shown:
            screen.say(click.style("stopped" if stopped else self._summary(turn), dim=True))
        return turn

    def account(self, turn: Turn) -> dict[str, Any]:
        """Return a turn as JSON tells it."""
        about = {each.name: getattr(turn, each.name) for each in fields(turn) if each.name != "pieces"}
        micros = self._cost(turn)
        cost = {"cost_micros": micros, "currency": self.currency if micros is not None else None}
        return {**about, "tokens_per_second": turn.tokens_per_second, **cost}

    def _try(self, text: str) -> None:
        """Say ``text``; an error is a line of the conversation, not its end."""
        try:
            self.say(text, shown=True)
        except MofangError as error:
            screen.say(f"error[{error.code}]: {error.message}", err=True)

    def _again(self) -> None:
        if len(self.messages) < 2:
            screen.say("nothing was said yet", err=True)
            return
        said = self.messages[-2]["content"]
        del self.messages[-2:]
        self._try(said)

    def _summary(self, turn: Turn) -> str:
        parts = [f"{format.count(turn.input_tokens)} + {format.count(turn.output_tokens)} tokens"]
        micros = self._cost(turn)
        if micros is not None:
            parts.append(f"{format.amounts([micros])[0]} {self.currency}")
        parts.append(f"first word {format.duration(turn.first_seconds)}")
        if turn.tokens_per_second:
            parts.append(f"{turn.tokens_per_second:.0f} tokens/s")
        if turn.finish == "length":
            parts.append("cut at its bound")
        return ", ".join(parts)

    def _cost(self, turn: Turn) -> int | None:
        """Return what the turn's request and tokens cost; None if there are no prices, or they are not for our eyes."""
        if self.prices is None:
            self.prices = {}
            with suppress(MofangError):
                book = self.session.client.bill.current_prices()
                self.prices, self.currency = _prices_of(book, self.endpoint), book.currency
        used = {
            "requests": 1,
            "input_tokens": turn.input_tokens,
            "cached_tokens": turn.cached_tokens,
            "output_tokens": turn.output_tokens,
        }
        known = [(used[meter], *price) for meter, price in self.prices.items() if meter in used]
        return sum(round(quantity * micros / per) for quantity, micros, per in known) if known else None


def _prices_of(book: PriceBook, endpoint: str) -> dict[str, tuple[int, int]]:
    """Return what a book asks at most for each meter of ``endpoint``, whatever model is behind it."""
    found: dict[str, tuple[int, int]] = {}
    for place in ("*", endpoint):
        fitting = (price for price in book.prices if price.scope.endpoint == place and price.currency == book.currency)
        found |= {
            price.scope.meter: (max(tier.micros for tier in price.tiers), price.per)
            for price in fitting
            if price.scope.tenant == price.scope.model == price.scope.variant == "*"
        }
    return found


def _lines() -> Any:
    """Yield what is typed, or piped, line by line."""
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        with suppress(ImportError):
            import readline  # noqa: F401  (keys and history of the line being typed)
    while True:
        try:
            yield input(prompt)
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo()
            return
