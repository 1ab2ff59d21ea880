"""What the bytes of one connection say, as exchanges: h11 follows both directions beside them and changes
nothing."""

import threading
from collections.abc import Callable

import h11
from attrs import define, field

_LONGEST_HEAD = 2**20


@define(eq=False)
class Exchange:
    """One request and its answer, as far as they have come."""

    method: str
    target: str
    headers: dict[str, str]
    status: int | None = None
    sent: int = 0  # request body bytes
    received: int = 0  # response body bytes
    request_whole: bool = False
    response_whole: bool = False

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def carries_data(self) -> bool:
        """Its body is image data, and there is more of it to come."""
        data = self.method == "GET" and self.path.endswith("/file") and self.status in {200, 206}
        return data and not self.response_whole


@define(eq=False)
class Observer:
    """Follows one connection; its two directions may be shown to it by two threads. `on_request` gets each
    exchange as it begins, `on_lost` why what follows cannot be understood; that ends the observation."""

    on_request: Callable[[Exchange], None]
    on_lost: Callable[[Exception], None]
    current: Exchange | None = None
    _lock: threading.Lock = field(factory=threading.Lock)
    _asked: h11.Connection = field(factory=lambda: h11.Connection(h11.SERVER, _LONGEST_HEAD))
    _answered: h11.Connection = field(factory=lambda: h11.Connection(h11.CLIENT, _LONGEST_HEAD))
    _lost: bool = False

    def saw_request(self, data: bytes) -> None:
        self._follow(data, self._asked, self._answered)

    def saw_response(self, data: bytes) -> None:
        """`data` empty: the connection's end."""
        self._follow(data, self._answered, self._asked)

    def _follow(self, data: bytes, heard: h11.Connection, told: h11.Connection) -> None:
        with self._lock:
            if self._lost:
                return
            try:
                heard.receive_data(data)
                while isinstance(event := heard.next_event(), h11.Event):
                    if isinstance(event, h11.ConnectionClosed):
                        return
                    told.send(event)  # so that both know where the exchange is
                    self._note(event, request=heard is self._asked)
            except h11.ProtocolError as error:
                self._lost = True
                if data:  # else the connection ended within a message, which is there to be seen
                    self.on_lost(error)
            else:
                self._next_cycle()

    def _note(self, event: h11.Event, *, request: bool) -> None:
        if isinstance(event, h11.Request):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            self.current = Exchange(event.method.decode("ascii"), event.target.decode("latin-1"), headers)
            self.on_request(self.current)
            return
        exchange = self.current
        if exchange is None:
            return
        if isinstance(event, h11.Response):
            exchange.status = event.status_code
        elif isinstance(event, h11.Data):
            exchange.sent += len(event.data) if request else 0
            exchange.received += 0 if request else len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            exchange.request_whole |= request
            exchange.response_whole |= not request

    def _next_cycle(self) -> None:
        done = {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
        if self._asked.states == done and self._answered.states == done:
            self._asked.start_next_cycle()
            self._answered.start_next_cycle()
