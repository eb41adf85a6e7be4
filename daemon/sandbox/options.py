"""Every switch of the sandbox. Where the provider documents no value, the default says why it was chosen."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from daemon.sandbox.faults import Fault

ErrorShape = Literal["encoded", "list", "bare", "detail", "text", "error", "empty"]
Refusal = Literal["batch", "orders", "listed"]

DEFAULT_KEY = "sandbox-key"
DEFAULT_CLIENT_ID = "sandbox-client"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ApiKey:
    """One pair that is let in: the raw `Authorization` value and the `Data-Client-ID` it belongs to."""

    key: str = Field(default=DEFAULT_KEY, repr=False)
    client_id: str = DEFAULT_CLIENT_ID


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SandboxOptions:
    """How the sandbox behaves. Checked on construction; `dataclasses.replace` checks again.

    keys                 the pairs that are let in; empty lets in any non-empty pair, as the anonymous UAT does
    budget_bytes         request bytes each key may send in any `budget_window_secs`, counted on arrival
    max_body_bytes       above it 413; the provider's size is not published
    max_orders           orders in one POST
    too_many_status      answer above `max_orders`; the provider documents neither
    unique_product_ids   refuse a second line, or refund, of one product (the contract has the message, not the rule)
    post_merges          a POST leaves what it does not name as it was; the provider says neither this nor the opposite
    refusal              a bad order sinks its whole `batch`; or only the bad `orders` are refused, still with a 400;
                         or, `listed`, the answer is a 200 that lists them
    error_shape          body of a 400. These name the orders: `encoded` (`response` is a JSON string of a list), `list`
                         (`response` is the list), `bare` (the list alone), `detail` (places and messages, no ids).
                         These do not: `text` (`response` is a sentence), `error` (an `error` sentence), `empty`
    json_path_base       paths of named errors start at the `batch` (`$[3].tax`) or at the `order` (`$.tax`)
    get_as_string        GET answers a JSON string that holds the JSON
    get_extra_fields     GET adds is_cancelled, is_deleted and updated_at to each order
    get_end_inclusive    orders of `end_date` itself are in the answer
    get_hidden_days      purchase days that GET leaves out, as some ranges came back empty in the wild
    keep_versions        newest versions kept of each order; None keeps all
    keep_requests        newest entries kept of the request log
    faults               faults queued from the start
    """

    keys: tuple[ApiKey, ...] = (ApiKey(),)
    budget_bytes: Annotated[int, Field(ge=1)] = 30_000_000
    budget_window_secs: Annotated[float, Field(gt=0)] = 60.0
    max_body_bytes: Annotated[int, Field(ge=1)] = 10_000_000
    max_orders: Annotated[int, Field(ge=1)] = 1000
    too_many_status: Literal[400, 413] = 400
    unique_product_ids: bool = False
    post_merges: bool = False
    refusal: Refusal = "batch"
    error_shape: ErrorShape = "encoded"
    json_path_base: Literal["batch", "order"] = "batch"
    get_as_string: bool = False
    get_extra_fields: bool = False
    get_end_inclusive: bool = True
    get_hidden_days: tuple[date, ...] = ()
    keep_versions: Annotated[int, Field(ge=1)] | None = None
    keep_requests: Annotated[int, Field(ge=1)] = 1000
    faults: tuple[Fault, ...] = ()
