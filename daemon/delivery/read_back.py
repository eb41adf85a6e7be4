"""GET /v2/orders: what the API shows of the orders of a day, streamed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import date
from types import TracebackType
from typing import Any, Self

import httpx

from daemon.delivery.orders_api import PATH, tls_context
from daemon.delivery.orders_stream import Unreadable, orders_in
from daemon.errors import ApiUnavailable, SettingsError
from daemon.settings import Destination, Http, Secret

READ_SECS = 120.0
"""Silence after which the answer is given up: a day of orders may take the API a while to find."""


class ReadBack:
    """Reads one destination's orders back. A context manager; one request at a time.

    Beside delivery: GETs have no part in the byte budget, and change nothing.
    """

    def __init__(self, destination: Destination, http: Http, connect_timeout_secs: float) -> None:
        self._url = destination.base_url + PATH
        self._client_id = destination.client_id
        self._secret = Secret(destination.api_key_env)
        self._client = httpx.Client(
            verify=tls_context(http),
            proxy=http.proxy,
            trust_env=False,
            timeout=httpx.Timeout(READ_SECS, connect=connect_timeout_secs),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def orders(self, start: date, end: date) -> Iterator[dict[str, Any]]:
        """The orders that the API shows for these days; whether those of `end` are among them is not documented.

        Raises SettingsError where the key is refused, ApiUnavailable for everything else that goes wrong.
        """
        headers = {
            "Authorization": self._secret.read(),
            "Data-Client-ID": self._client_id,
            "Accept": "application/json",
        }
        days = {"start_date": start.isoformat(), "end_date": end.isoformat()}
        where = f"{self._url} of {start}"
        try:
            with self._client.stream("GET", self._url, params=days, headers=headers) as response:
                if response.status_code in (401, 403):
                    raise SettingsError(f"{where}: answers {response.status_code}: it refuses {self._secret.name}")
                if response.status_code != httpx.codes.OK:
                    wait = response.headers.get("retry-after")
                    asks = f" and asks to wait {wait} s" if wait else ""
                    raise ApiUnavailable(f"{where}: answers {response.status_code}{asks}; try again from {start} later")
                yield from orders_in(response.iter_bytes())
        except UnicodeEncodeError as error:
            raise SettingsError(f"{self._secret.name} holds characters that no header can carry") from error
        except Unreadable as error:
            raise ApiUnavailable(f"{where}: {error}") from error
        except (httpx.HTTPError, ssl.SSLError) as error:
            reason = str(error) or type(error).__name__
            raise ApiUnavailable(f"{where}: {reason}; try again from {start} later") from error
