"""Every error the platform raises on purpose: one tree, each leaf with a stable code.

::

    MofangError
    ├── Invalid            the request is wrong and will stay wrong
    ├── Unauthenticated    no key, or not one of ours
    ├── Forbidden          a good key that may not do this
    ├── NotFound           the named thing does not exist, or is not yours
    ├── Conflict           the state of things forbids it now
    ├── TooLarge           over a size limit
    ├── Exhausted          over a rate, a quota or a queue bound; try later
    ├── DeadlineExceeded   the time the caller gave has passed
    ├── Cancelled          the caller went away or cancelled
    ├── Unavailable        a part that should answer cannot right now; try later
    └── Internal           our own fault

An error names what was wrong and carries a hint that says what to do. It never knows an HTTP status, a gRPC code or an
exit code: ``mofang.surface.wire.status`` renders the *kind* (the direct child of :class:`MofangError`) for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class MofangError(Exception):
    """The root. ``str(error)`` is the sentence for people; ``code`` is the stable word for programs."""

    code: ClassVar[str] = "internal"
    hint: str = ""
    seen: bool = False  # the request that it ended was shown to those who look at requests

    def __init__(self, message: str, *, hint: str | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.retry_after_seconds))


def _rebuild(cls: type[MofangError], message: str, hint: str, retry_after_seconds: int | None) -> MofangError:
    return cls(message, hint=hint, retry_after_seconds=retry_after_seconds)


class Invalid(MofangError):
    """The request is wrong and will stay wrong."""

    code = "invalid"


class Unauthenticated(MofangError):
    """No key was presented, or the one presented is not known."""

    code = "key.missing"
    hint = "send a key as `Authorization: Bearer KEY`; `mofang keys create --project P` makes one"


class Forbidden(MofangError):
    """The key is good, but may not do this."""

    code = "key.forbidden"
    hint = "use a key whose role allows it; `mofang keys list` shows the roles"


class NotFound(MofangError):
    """The named thing does not exist, or does not belong to the caller."""

    code = "not_found"


class Conflict(MofangError):
    """The state of things forbids it now."""

    code = "conflict"


class TooLarge(MofangError):
    """Over a size limit."""

    code = "too_large"


class Exhausted(MofangError):
    """Over a rate, a quota or a queue bound."""

    code = "exhausted"


class DeadlineExceeded(MofangError):
    """The time the caller gave has passed; the answer was not computed or not waited for."""

    code = "deadline"
    hint = "send a longer `x-request-timeout-ms`, or add replicas"


class Cancelled(MofangError):
    """The caller went away, or cancelled."""

    code = "cancelled"


class Unavailable(MofangError):
    """A part that should answer cannot right now."""

    code = "unavailable"


class Internal(MofangError):
    """Our own fault."""

    code = "internal"
    hint = "this is a defect in Mofang; `mofang doctor` collects what a report needs"


KINDS: tuple[type[MofangError], ...] = (
    Invalid, Unauthenticated, Forbidden, NotFound, Conflict, TooLarge, Exhausted,
    DeadlineExceeded, Cancelled, Unavailable, Internal,
)  # fmt: skip


# --- names and requests -------------------------------------------------------------------------------------------


class InvalidName(Invalid):
    """A name holds characters, or a length, that names may not have."""

    code = "name.invalid"
    hint = "use 1-63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit"


class InvalidRequest(Invalid):
    """The request cannot be read as the protocol says."""

    code = "request.malformed"
    hint = "the reference describes the protocols under /v2; GET /api/v1/openapi.json describes the control API"


class InvalidParameter(Invalid):
    """A parameter is unknown, of the wrong type, out of its range, or more than the model can do."""

    code = "request.parameter"
    hint = "the reference of the protocol lists the parameters"

    @classmethod
    def of(cls, parameter: str, message: str) -> InvalidParameter:
        """Return the error of one parameter, which its message begins with."""
        return cls(f"{parameter}: {message}")


class InvalidPath(Invalid):
    """A file's path leads out of its folder, or is no path."""

    code = "path.invalid"
    hint = "use relative paths with '/', without '..', each once"


class KeyReused(Invalid):
    """The idempotency key was used for a request that asked something else."""

    code = "request.key_reused"
    hint = "use a new Idempotency-Key for every new request, and the same only to send that very request again"


class RequestTooLarge(TooLarge):
    """The body, a header or a chunk count is over its limit."""

    code = "request.too_large"
    hint = "send less at once"


class HeadTooLarge(RequestTooLarge):
    """The header fields, or the path, of a request are over their limit."""

    code = "request.head_too_large"
    hint = "send fewer and shorter header fields, and a shorter path"


class RequestTimeout(Invalid):
    """The request did not arrive in the time a request may take to arrive."""

    code = "request.timeout"
    hint = "send the request faster, or in smaller parts"


class RouteNotFound(NotFound):
    """No such path."""

    code = "request.path"
    hint = "inference is under /v2, the control API under /api/v1"


class MethodNotAllowed(Invalid):
    """The path exists, but not with this method."""

    code = "request.method"
    hint = "use the method that the path takes"


# --- tensors ------------------------------------------------------------------------------------------------------


class TensorName(Invalid):
    """An input is missing, unknown or given twice."""

    code = "tensor.name"
    hint = "GET /v2/models/ENDPOINT (or ModelMetadata) tells the inputs and outputs"


class TensorDatatype(Invalid):
    """A tensor has another datatype than the signature says."""

    code = "tensor.datatype"
    hint = "GET /v2/models/ENDPOINT (or ModelMetadata) tells the datatypes"


class TensorShape(Invalid):
    """A tensor has another shape than the signature says, or a shape no tensor can have."""

    code = "tensor.shape"
    hint = "GET /v2/models/ENDPOINT (or ModelMetadata) tells the shapes; -1 is any size"


class TensorData(Invalid):
    """The data of a tensor does not fill its shape, or is no value of its datatype."""

    code = "tensor.data"
    hint = "send one value for each place of the shape, in row-major order"


# --- identity -----------------------------------------------------------------------------------------------------


class UnknownKey(Unauthenticated):
    """The key presented is not one of ours, was revoked, or is damaged."""

    code = "key.unknown"
    hint = "check for missing characters, or make another: `mofang keys create --project P`"


class ExpiredKey(Unauthenticated):
    """The key presented has expired."""

    code = "key.expired"
    hint = "make another: `mofang keys create --project P`"


class OutOfReach(Forbidden):
    """The role would do, but not for things of this size: of a tenant, or of the platform."""

    code = "key.reach"
    hint = "ask somebody who looks after the whole tenant, or the whole platform"


class OutOfScope(Forbidden):
    """The key was made for other endpoints."""

    code = "key.scope"
    hint = "use a key for this endpoint: `mofang keys create --project P --endpoint ENDPOINT`"


class OutOfNetwork(Forbidden):
    """The key may not be used from this address."""

    code = "key.network"
    hint = "use it from a network it was made for: `mofang keys list` shows them"


class InvalidNetwork(Invalid):
    """That is no range of network addresses."""

    code = "network.invalid"
    hint = "write e.g. 203.0.113.0/24, 2001:db8::/32 or one address; the bits after the prefix must be zero"


class SignInFailed(Unauthenticated):
    """The name, the password or the one-time code is wrong; which of them is not told."""

    code = "sign_in.failed"
    hint = "who looks after your tenant can give you a new one-time code: `mofang users code NAME`"


class SignInLater(Exhausted):
    """Too many wrong passwords for this name: it has to wait."""

    code = "sign_in.later"
    hint = "wait as long as Retry-After says; each further failure doubles it"


class SignInForbidden(Forbidden):
    """Who she is, is known; but she has no role here."""

    code = "sign_in.no_role"
    hint = "ask for one: `mofang users grant NAME viewer --project P`"


class SignInUnavailable(Conflict):
    """No OIDC provider is set up here."""

    code = "sign_in.no_provider"
    hint = "set MOFANG_OIDC_ISSUER and MOFANG_OIDC_CLIENT, or sign in with a password"


class ProviderFailed(Unavailable):
    """The OIDC provider does not answer, or not as the standard says."""

    code = "sign_in.provider"
    hint = "try again; the server's log of the controller tells more"


class InvalidPassword(Invalid):
    """The password cannot be used as one."""

    code = "password.invalid"


class UserNotFound(NotFound):
    """No user has that name."""

    code = "user.not_found"
    hint = "`mofang users list` shows them"


class UserExists(Conflict):
    """A user of that name exists already."""

    code = "user.exists"


class GrantNotFound(NotFound):
    """The user has no role there."""

    code = "grant.not_found"
    hint = "`mofang users list` shows who has which role where"


class NotSignedIn(Conflict):
    """This is about a person's session, and a key asks."""

    code = "sign_in.none"
    hint = "`mofang keys revoke ID` ends a key"


class KeyEnded(Conflict):
    """The key was revoked or has expired, so that nothing can take its place gradually."""

    code = "key.ended"
    hint = "make another: `mofang keys create --project P`"


class KeyNotFound(NotFound):
    """No key has that id."""

    code = "key.not_found"
    hint = "`mofang keys list` shows the ids"


class NameTaken(Conflict):
    """The name belongs to a thing of another project; models and endpoints of all projects share one list of names."""

    code = "name.taken"
    hint = "choose another name"


class ProjectNotFound(NotFound):
    """No project has that name."""

    code = "project.not_found"
    hint = "`mofang projects list` shows them; `mofang projects create NAME` makes one"


class ProjectExists(Conflict):
    """A project of that name exists already."""

    code = "project.exists"


class TenantNotFound(NotFound):
    """No tenant has that name."""

    code = "tenant.not_found"


class TenantExists(Conflict):
    """A tenant of that name exists already."""

    code = "tenant.exists"


class RateLimited(Exhausted):
    """A key, its project or its tenant has asked as much as it may in a minute."""

    code = "limit.rate"
    hint = "wait as long as Retry-After says; `mofang limits show` shows the limits to an admin, who can raise them"


class ConcurrencyLimited(Exhausted):
    """A key, its project or its tenant has as many requests under way as it may."""

    code = "limit.concurrency"
    hint = "wait for an answer before the next request; `mofang limits show` shows the limits to an admin"


class PayloadLimited(TooLarge):
    """One request is larger than its key, project or tenant may ever send."""

    code = "limit.payload"
    hint = "split the request; `mofang limits show` shows the limits to an admin"


class BudgetExhausted(Exhausted):
    """A key, its project or its tenant has spent its budget, or the rest of it is held for requests under way."""

    code = "budget.exhausted"
    hint = "`mofang budget show` shows budgets to an admin, who can raise them or add credit"


class QuotaExhausted(Exhausted):
    """A key, its project or its tenant has used the units it may use in the month, or in all."""

    code = "budget.quota"
    hint = "`mofang budget show` shows quotas to an admin, who can raise them"


class BudgetUnconfirmed(Unavailable):
    """Whether there is budget for the request could not be found out in time."""

    code = "budget.unconfirmed"
    hint = "try again shortly; budgets are granted by the controller, `mofang status` shows whether it runs"


class BudgetNotFound(NotFound):
    """No budget has that id."""

    code = "budget.not_found"
    hint = "`mofang budget show` shows the ids"


class InvalidWebhook(Invalid):
    """The URL cannot be that of a webhook."""

    code = "webhook.invalid"


class WebhookFailed(Unavailable):
    """A webhook could not be told; it is tried again."""

    code = "webhook.failed"


class BudgetCurrency(Conflict):
    """The budget is in another currency than the prices of the endpoint."""

    code = "budget.currency"
    hint = "set the budget in the currency of the price book that is in force; `mofang prices show` tells it"


# --- making -------------------------------------------------------------------------------------------------------


class InvalidRecipe(Invalid):
    """The recipe does not say what a recipe must say; the message names line, key and the nearest valid word."""

    code = "recipe.invalid"


class DatasetUnavailable(NotFound):
    """None of the named sources of data can be read here."""

    code = "dataset.unavailable"


class DatasetNotFound(NotFound):
    """No dataset has that digest."""

    code = "dataset.not_found"


class SourceForbidden(Forbidden):
    """The key may not have this file of the server read as data."""

    code = "dataset.forbidden"
    hint = "the owner can allow its folder with MOFANG_SOURCES, or start the recipe with an admin key"


class CodeForbidden(Forbidden):
    """The key may not have code run by the server."""

    code = "code.forbidden"
    hint = "start the recipe with an admin key: code in a recipe runs as the server does"


class InvalidDataset(Invalid):
    """The data is there but cannot be used: damaged, empty, or not of the declared kind."""

    code = "dataset.invalid"


class RunNotFound(NotFound):
    """No run has that id."""

    code = "run.not_found"
    hint = "`mofang runs list` shows them"


class TrainingFailed(Conflict):
    """Training does not lead to a model: its numbers run away."""

    code = "train.failed"
    hint = "try a smaller learning_rate"


class ExtraMissing(Conflict):
    """A package that the recipe or the model needs is not installed."""

    code = "extra.missing"
    hint = "install it where the server runs: `pip install 'mofang[boosting]'`"

    @classmethod
    def of(cls, what: str, package: str | None, extra: str) -> ExtraMissing:
        """Return the error of ``what`` needs a package, and the extra of ours that brings it."""
        return cls(
            f"{what} needs the package {package!r}, which is not installed",
            hint=f"install it where the server runs: `pip install 'mofang[{extra}]'`",
        )


class ToolchainMissing(Conflict):
    """What the model needs lives in an environment of its own, which is not installed."""

    code = "toolchain.missing"
    hint = "install it where the server runs: `mofang toolchains install tensorflow`"


class ToolchainFailed(Conflict):
    """A toolchain cannot be installed on this machine."""

    code = "toolchain.failed"
    hint = "see that the machine reaches a package index, and has room; then try again"


class NoNetwork(Conflict):
    """What asks for a network's layers and weights was given something else."""

    code = "network.missing"
    hint = 'train it here, by an algorithm that makes a network, e.g. `algorithm = "resnet"`'


class ConversionFailed(Conflict):
    """A step of the pipeline has no portable form."""

    code = "convert.failed"
    hint = "serve it by its own framework: [convert] format = 'skops'"


class ParityFailed(Conflict):
    """The converted model does not answer as its source does."""

    code = "convert.parity"
    hint = "the model can be served by its own framework instead of ONNX"


class InvalidGate(Invalid):
    """A gate expression cannot be read."""

    code = "gate.invalid"
    hint = "write e.g. `accuracy >= 0.85 and recall[3] >= 0.7`"


class NoExport(Conflict):
    """The version cannot take that form."""

    code = "export.none"
    hint = "`--to onnx` or `--to original` may do; the table of forms says which versions can take which"


class ExportFailed(Conflict):
    """What was exported cannot be run, so that nobody knows whether it answers as it should."""

    code = "export.failed"
    hint = "export it in another form, e.g. `--to onnx`"


class ExportNotFound(NotFound):
    """No export was made by that job."""

    code = "export.not_found"
    hint = "`mofang export MODEL@VERSION --to onnx` makes one"


class NotTuned(NotFound):
    """A deployment wants what tuning found, and the version was not tuned on this server."""

    code = "version.not_tuned"
    hint = "`mofang tune MODEL@VERSION` measures how to run it"


class GateFailed(Conflict):
    """The model did not reach the quality its gate asks for."""

    code = "gate.failed"
    hint = "nothing was registered; `mofang runs show RUN` shows the whole report"


class EvaluationNotFound(NotFound):
    """No evaluation has that id."""

    code = "evaluation.not_found"


class NoVariant(Conflict):
    """No compressed variant satisfies the constraint; nothing was registered."""

    code = "compress.none"


# --- registry -----------------------------------------------------------------------------------------------------


class InvalidModel(Invalid):
    """The file is not a model that can be served."""

    code = "model.invalid"


class UnknownFormat(Invalid):
    """What was pushed is of no format that is known, or of several."""

    code = "model.format"


class PickleRefused(Invalid):
    """The file is a pickle: opening it runs whatever program its maker put into it."""

    code = "model.pickle"
    hint = (
        "save it with skops; or, if you trust its maker, push it with `--allow-pickle`: it is opened once, in a process"
        " that reaches no network and none of the server's files"
    )


class SandboxMissing(Conflict):
    """This machine cannot lock a process in, so that a file which runs programs is not opened."""

    code = "sandbox.missing"
    hint = "run the server on Linux 5.13 or later with Landlock and seccomp, or push the model as ONNX or skops"


class FileNotHere(NotFound):
    """No file has that id."""

    code = "file.not_found"
    hint = "GET /v1/files lists them"


class InvalidBatch(Invalid):
    """A file of requests cannot be answered as it is."""

    code = "batch.invalid"
    hint = "each line is {custom_id, method: POST, url, body}; the reference has an example"


class ModelNotFound(NotFound):
    """No model has that name."""

    code = "model.not_found"
    hint = "`mofang models list` shows them"


class VersionNotFound(NotFound):
    """The model has no such version or alias."""

    code = "version.not_found"
    hint = "`mofang versions list MODEL` shows them"


class BlobNotFound(NotFound):
    """No stored object has that digest."""

    code = "blob.not_found"


class DigestMismatch(Conflict):
    """Stored bytes are not the bytes that were stored: damage, or tampering."""

    code = "blob.digest"
    hint = "restore the data directory from a backup; `mofang doctor` lists every damaged object"


# --- running ------------------------------------------------------------------------------------------------------


class EndpointNotFound(NotFound):
    """No endpoint has that name, or it serves no such version."""

    code = "endpoint.not_found"
    hint = "`mofang endpoints list` shows them; `mofang deploy ENDPOINT MODEL@VERSION` makes one"


class RevisionNotFound(NotFound):
    """The endpoint has no such revision."""

    code = "revision.not_found"
    hint = "`mofang endpoints show ENDPOINT` shows its revisions"


class RolloutNotFound(NotFound):
    """No rollout has that id."""

    code = "rollout.not_found"


class RolloutInProgress(Conflict):
    """Another rollout of the endpoint has not ended."""

    code = "rollout.busy"
    hint = "wait for it: `mofang endpoints show ENDPOINT` shows how far it is"


class RolloutFailed(Conflict):
    """The new version was refused; the old one still serves."""

    code = "rollout.failed"


class EngineNotFound(Invalid):
    """No installed engine has that name."""

    code = "engine.unknown"


class InvalidOption(Invalid):
    """An option of an engine is not known, or cannot have that value."""

    code = "engine.option"
    hint = "the reference lists the options of each engine"


class PaddingRefused(Invalid):
    """Requests of several lengths cannot be padded as the owner says: no such input, or answers would change."""

    code = "endpoint.padding"
    hint = "`--pad NAME=VALUE` for each input with an open length, `--no-pad` for none"


class AdapterRefused(Invalid):
    """An adapter cannot be served as it was asked."""

    code = "engine.adapter"
    hint = "engines `transformers` and `llamacpp` compute each request with the adapter it names"


class EngineLoadFailed(Conflict):
    """The engine cannot load the model."""

    code = "engine.load"


class PromptTooLong(Invalid):
    """The prompt has more tokens than the model can see at once."""

    code = "generate.prompt_too_long"
    hint = "send less of the conversation, or deploy a model with a larger context"


class ConversationRefused(Invalid):
    """The model's chat template cannot write, or does not take, the conversation."""

    code = "generate.conversation"
    hint = "look at the order and the roles of the messages; /v1/completions takes plain text"


class NotGenerative(Invalid):
    """The endpoint's model cannot do what this path asks of it: it generates no text, or nothing but text."""

    code = "generate.not_offered"
    hint = "GET /v1/models lists what each model offers"


class UpstreamRefused(Invalid):
    """The server that computes the model does not take the request."""

    code = "upstream.refused"
    hint = "the model is another provider's; its documentation says what it takes"


class UpstreamFailed(Unavailable):
    """The server that computes the model does not answer, breaks off, or does not serve us."""

    code = "upstream.failed"
    hint = "the model is another provider's; try again later"


class EngineFailed(Internal):
    """The engine failed while computing."""

    code = "engine.failed"
    hint = "the input is as the signature says, but the model cannot compute it; `mofang status` shows the worker's log"


class OutputNotJson(EngineFailed):
    """An output has values JSON cannot write: NaN, infinity, or bytes that are not UTF-8."""

    code = "engine.not_json"


class WarmUpFailed(Conflict):
    """The model loads but does not answer sanely: a warm-up answer failed or was not finite."""

    code = "engine.warm_up"


class LoadedByDeploying(Conflict):
    """A client of the inference protocol asked to load or unload a model."""

    code = "endpoint.loaded_by_deploying"
    hint = "use `mofang deploy ENDPOINT MODEL@VERSION`, or PUT /api/v1/endpoints/ENDPOINT"


class ReplicaLost(Unavailable):
    """The worker that was computing the answer died."""

    code = "replica.lost"
    hint = "send the request again; the worker is being replaced"


class ReplicaUnavailable(Unavailable):
    """No replica of the endpoint can answer right now."""

    code = "replica.unavailable"
    hint = "`mofang endpoints show ENDPOINT` shows why; a crash loop needs another version or a rollback"


class Overloaded(Exhausted):
    """The replica's queue is full, or the request could not be answered before its deadline."""

    code = "replica.overloaded"
    hint = "try again after the time in Retry-After, or add replicas"


class TooManyConnections(Unavailable):
    """The gateway holds as many connections as it may."""

    code = "server.connections"
    hint = "reuse connections, or try again shortly"


class Starting(Unavailable):
    """The gateway has just started and does not know yet what it serves, and whom."""

    code = "server.starting"
    hint = "send the request again in a moment"


class Draining(Unavailable):
    """The server is shutting down."""

    code = "server.draining"
    hint = "try again after the restart"


# --- jobs ---------------------------------------------------------------------------------------------------------


class JobNotFound(NotFound):
    """No job has that id."""

    code = "job.not_found"


class JobEnded(Conflict):
    """The job has ended and can no longer be changed."""

    code = "job.ended"


class JobFailed(Conflict):
    """The job ended without its result."""

    code = "job.failed"


class JobCancelled(Cancelled):
    """The job was cancelled."""

    code = "job.cancelled"


class LeaseLost(Conflict):
    """Another worker holds the job now."""

    code = "job.lease_lost"


# --- money --------------------------------------------------------------------------------------------------------


class InvalidMoney(Invalid):
    """Not an amount of money: a float, a wrong currency, or two currencies in one sum."""

    code = "money.invalid"


class InvalidUsage(Internal):
    """A usage record carries what no invoice could hold: a quantity that is no whole, bounded number of units."""

    code = "usage.invalid"


class InvalidPriceBook(Invalid):
    """The price book cannot be used for rating."""

    code = "prices.invalid"


class PriceBookNotFound(NotFound):
    """No price book is in force for the period."""

    code = "prices.not_found"
    hint = "`mofang prices set FILE` publishes one"


class InvoiceNotFound(NotFound):
    """No invoice has that id."""

    code = "invoice.not_found"


class InvalidInvoice(Invalid):
    """The invoice has no such line, or not so much to give back."""

    code = "invoice.invalid"
    hint = "`mofang invoice show INVOICE` numbers its lines"


class InvoiceConflict(Conflict):
    """The state of an invoice, or of another one for the same hours, forbids it."""

    code = "invoice.conflict"
    hint = "`mofang invoice list` shows the state of each; what was issued is corrected by a credit note"


class InvalidPeriod(Invalid):
    """The period is empty, reversed or not a date."""

    code = "period.invalid"
    hint = "write e.g. `--from 2026-11-01 --to 2026-12-01`"


# --- server and storage -------------------------------------------------------------------------------------------


class InvalidSettings(Invalid):
    """A setting has a value it cannot have."""

    code = "settings.invalid"


class PortInUse(Conflict):
    """Another program listens there."""

    code = "server.port_in_use"
    hint = "choose another with `--http HOST:PORT` or `--grpc HOST:PORT`, or stop what listens there"


class DataDirectoryInUse(Conflict):
    """Another server runs on this data directory."""

    code = "server.data_in_use"
    hint = "`mofang status` shows it, `mofang down` stops it; or choose another with `--data DIR`"


class DataDirectoryUnusable(Conflict):
    """The data directory cannot be written."""

    code = "server.data_unusable"
    hint = "choose a writable directory with free space: `mofang up --data DIR`"


class ServerNotRunning(Unavailable):
    """No server answers there."""

    code = "server.not_running"
    hint = "start one with `mofang up`, or name one with `--url`"


class ServerFailed(Internal):
    """A part of the server did not start."""

    code = "server.failed"


class StorageFull(Unavailable):
    """The disk is full, or the store refuses writes; nothing was half-written."""

    code = "storage.full"
    hint = "free some space; the server goes on by itself"


class StorageUnavailable(Unavailable):
    """The database or the object store cannot be reached."""

    code = "storage.unavailable"


class JournalUnsafe(Unavailable):
    """The disk failed to make usage durable: nothing is acknowledged any more, and the gateway starts anew."""

    code = "journal.unsafe"
    hint = "the disk has errors: look at the kernel's log, and move the data directory to another"


class JournalDamaged(Internal):
    """A journal segment is damaged before its end."""

    code = "journal.damaged"


class AuditRecordNotFound(NotFound):
    """The audit log has no such record, or never had that size."""

    code = "audit.not_found"


class InvalidAuditKey(Invalid):
    """The key that signs, or checks, heads of the audit log cannot be used."""

    code = "audit.key"
    hint = "it is Ed25519 in PEM; `mofang audit key` prints the public one"


class LedgerBroken(Conflict):
    """The ledger of usage is not what the audit log saw being added to it."""

    code = "usage.broken"


class AuditBroken(Conflict):
    """The audit log was changed, cut or reordered; the message names the first bad record."""

    code = "audit.broken"


def catalog() -> dict[str, type[MofangError]]:
    """Return every code with the class that carries it, in the order of the tree."""

    def walk(cls: type[MofangError]) -> Iterator[type[MofangError]]:
        for child in cls.__subclasses__():
            yield child
            yield from walk(child)

    return {cls.code: cls for cls in walk(MofangError)}


def kind_of(error: MofangError | type[MofangError]) -> type[MofangError]:
    """Return the direct child of :class:`MofangError` that ``error`` descends from."""
    cls = error if isinstance(error, type) else type(error)
    return next((kind for kind in KINDS if issubclass(cls, kind)), Internal)
