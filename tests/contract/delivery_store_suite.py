"""What every delivery store must do, told once for memory and for Postgres."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from daemon.errors import DestinationError, LeaseLost, Superseded
from daemon.mapping.rows import StoredRow, Wanted
from daemon.state.delivery_records import (
    Asked,
    DeliveryState,
    DueOrder,
    Fate,
    Gone,
    Hold,
    Judgement,
    Lease,
    Outgoing,
    Placed,
    Settled,
    Settlement,
    Standing,
)

URL = "http://api"
VERSION = "mapping-1"


class World:
    """A store with one destination, and what ingest and an onlooker can do to it."""

    store: DeliveryState
    destination: int

    def touch(self, key: str, *, lane: int = 0, due_in: float = -1.0) -> None:
        """Ingest marks the order."""
        raise NotImplementedError

    def put_row(self, row: StoredRow) -> None:
        """Ingest folds a row."""
        raise NotImplementedError

    def look(self, key: str) -> dict[str, Any]:
        """The order's record by the names of its columns. first_change: known or not; held: not_before lies ahead."""
        raise NotImplementedError

    def pause(self) -> None:
        """An operator pauses the destination."""
        raise NotImplementedError

    def resume(self) -> None:
        """An operator resumes it."""
        raise NotImplementedError

    def ask(self, placed: Placed | None) -> None:
        """An operator asks for orders of the backfill, or for none any more."""
        raise NotImplementedError

    def decide_guarded(self, *keys: str, release: bool) -> None:
        """An operator releases or discards guarded orders."""
        raise NotImplementedError

    def erase(self, *keys: str, body: bytes, clear: str) -> None:
        """An operator erases these orders' customer: documents become `body`, the API is to lose `clear`."""
        raise NotImplementedError

    def gate(self, *, closed: bool) -> None:
        """Ingest begins, or has done with, a backlog."""
        raise NotImplementedError

    def begin_era(self) -> None:
        """Somebody sees that the state went back."""
        raise NotImplementedError

    def note_targets(self) -> None:
        """Ingest noted how far it reads again."""
        raise NotImplementedError

    def end_replay(self) -> None:
        """It has read that far."""
        raise NotImplementedError

    def forget_renewals(self) -> None:
        """The leases are what they were when they were taken."""
        raise NotImplementedError

    def put_in_force(self, version: str) -> None:
        """A process with another mapping starts."""
        raise NotImplementedError

    def reconcile(self, missing: int, extra: int, different: int) -> None:
        """An operator has held the API's copy against the state."""
        raise NotImplementedError

    async def lead(self, holder: UUID | None = None, secs: float = 60.0) -> Lease:
        """Take the lease, which is free."""
        lease = await self.store.take_lease(self.destination, holder or uuid4(), secs)
        assert lease is not None
        return lease

    async def due(self, *, lane: int = 0, limit: int = 100, busy: tuple[str, ...] = ()) -> list[DueOrder]:
        """The due orders of a lane."""
        return await self.store.due(self.destination, lane, limit, busy)

    async def send(
        self, lease: Lease, *keys: str, body: bytes = b"{}", zero: bool = False, clears: bool = False
    ) -> int:
        """Put due orders in flight; the request."""
        due = await self.store.due_among(self.destination, keys)
        assert {one.key for one in due} == set(keys)
        request = await self.store.next_request()
        going = [
            Outgoing(one.key, one.revision, one.read_at, f"V-{one.key}", body, zero=zero, zeroes=zero, clears=clears)
            for one in due
        ]
        assert sorted(await self.store.reserve(lease, request, 0, going, VERSION)) == sorted(keys)
        return request

    async def park(self, lease: Lease, hold: Hold, **placed_at: float) -> None:
        """Park new orders of the backfill, by the time they were placed."""
        for key in placed_at:
            self.touch(key, lane=1)
        parked = [
            Judgement(key, 1, hold=hold, parked=True, placed_at=at, body_bytes=100) for key, at in placed_at.items()
        ]
        assert sorted(await self.store.judge(lease, parked, VERSION)) == sorted(placed_at)

    async def end(
        self,
        lease: Lease,
        request: int,
        fate: Fate,
        *keys: str,
        counts_secs: float = 60.0,
        zeroed: int = 0,
        **each: Any,
    ) -> list[str]:
        """Settle a request with one fate for all; the accepted keys."""
        orders = tuple(Settled(key, fate, **each) for key in keys)
        accepted = await self.store.settle(
            lease,
            Settlement(request, fate.value, 200 if fate is Fate.ACCEPTED else None, None, counts_secs, orders, zeroed),
        )
        return [one.key for one in accepted]


Scenario = Callable[[World], Awaitable[None]]
Play = Callable[[Scenario], None]


class DeliveryStoreSuite:
    """Subclasses give the fixture `play`, which runs a scenario in a fresh world."""

    @pytest.fixture
    def play(self) -> Play:
        raise NotImplementedError

    def test_destination_keeps_its_number(self, play: Play) -> None:
        """The same pairing of name and identity is the same destination."""

        async def scenario(world: World) -> None:
            assert await world.store.register("d", URL, "c") == world.destination
            assert await world.store.register("e", URL, "other") != world.destination

        play(scenario)

    @pytest.mark.parametrize(("name", "client"), [("d", "other"), ("other", "c")])
    def test_changed_identity_is_refused(self, play: Play, name: str, client: str) -> None:
        """Neither a name with another identity nor an identity under another name is let in."""

        async def scenario(world: World) -> None:
            with pytest.raises(DestinationError, match=f"destinations.{name}"):
                await world.store.register(name, URL, client)

        play(scenario)

    def test_lease_has_one_holder_until_it_is_returned(self, play: Play) -> None:
        """Nobody takes a lease that is held; a returned one starts a new epoch."""

        async def scenario(world: World) -> None:
            first = await world.lead()
            assert await world.store.take_lease(world.destination, uuid4(), 60) is None
            await world.store.renew_lease(first, 60)
            await world.store.release_lease(first)
            second = await world.lead()
            assert second.epoch == first.epoch + 1
            await world.store.release_lease(first)  # not its own any more: no effect
            assert await world.store.take_lease(world.destination, uuid4(), 60) is None

        play(scenario)

    def test_old_epoch_changes_nothing(self, play: Play) -> None:
        """Whoever lost the lease can neither renew it, nor send, nor settle, nor judge, nor remember."""

        async def scenario(world: World) -> None:
            old = await world.lead()
            world.touch("1")
            world.touch("2")
            request = await world.send(old, "1")
            due = (await world.due())[0]
            await world.store.release_lease(old)
            await world.lead()
            attempts: list[Callable[[], Awaitable[object]]] = [
                lambda: world.store.renew_lease(old, 60),
                lambda: world.store.inherit(old, 1),
                lambda: world.end(old, request, Fate.ACCEPTED, "1", digest=b"x"),
                lambda: world.store.reserve(old, 99, 0, [Outgoing(due.key, due.revision, 0, "V", b"{}")], VERSION),
                lambda: world.store.judge(old, [Judgement(due.key, due.revision, settle=True)], VERSION),
                lambda: world.store.save_standing(old, Standing(halted="x")),
                lambda: world.store.release_quarantines(old, VERSION, 10),
                lambda: world.store.resend_changed(old, "mapping-2", "", 10),
                lambda: world.store.release_parked(old, Hold.SHADOW, Placed(), 10),
            ]
            for attempt in attempts:
                with pytest.raises(LeaseLost):
                    await attempt()
            assert world.look("1")["request_id"] == request
            assert world.look("1")["settled_revision"] == 0
            assert world.look("2")["request_id"] is None
            assert (await world.store.standing(world.destination)).halted is None

        play(scenario)

    def test_due_orders_come_by_lane_longest_due_first(self, play: Play) -> None:
        """Only orders whose time has come, of one lane, without the busy ones, up to the limit."""

        async def scenario(world: World) -> None:
            world.touch("b", due_in=-2)
            world.touch("a", due_in=-1)
            world.touch("c", due_in=-3)
            world.touch("later", due_in=60)
            world.touch("old", lane=1)
            assert [one.key for one in await world.due()] == ["c", "b", "a"]
            assert [one.key for one in await world.due(limit=2)] == ["c", "b"]
            assert [one.key for one in await world.due(busy=("c",))] == ["b", "a"]
            assert [one.key for one in await world.due(lane=1)] == ["old"]
            assert [one.key for one in await world.store.due_among(world.destination, ["later", "a", "?"])] == ["a"]

        play(scenario)

    def test_order_in_flight_is_not_due(self, play: Play) -> None:
        """An order is named by one request at a time, however often it changes meanwhile."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            due = (await world.due())[0]
            await world.send(lease, "1")
            world.touch("1")
            assert await world.due() == []
            second = await world.store.next_request()
            again = Outgoing("1", due.revision + 1, due.read_at, "V-1", b"{}")
            assert await world.store.reserve(lease, second, 0, [again], VERSION) == []

        play(scenario)

    def test_nothing_is_due_while_a_backlog_is_folded(self, play: Play) -> None:
        """Neither by lane nor by key, and what was judged before the gate closed does not go either."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            [due] = await world.due()
            world.gate(closed=True)
            assert await world.due() == []
            assert await world.store.due_among(world.destination, ["1"]) == []
            going = [Outgoing(due.key, due.revision, due.read_at, "V-1", b"{}")]
            assert await world.store.reserve(lease, await world.store.next_request(), 0, going, VERSION) == []
            world.gate(closed=False)
            await world.send(lease, "1")

        play(scenario)

    def test_who_has_another_mapping_than_the_one_in_force_sends_nothing(self, play: Play) -> None:
        """Neither does it judge; what it has in flight it may settle."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            world.touch("2")
            request = await world.send(lease, "1")
            [due] = await world.due()
            world.put_in_force("another")
            going = [Outgoing(due.key, due.revision, due.read_at, "V-2", b"{}")]
            with pytest.raises(Superseded):
                await world.store.reserve(lease, await world.store.next_request(), 0, going, VERSION)
            with pytest.raises(Superseded):
                await world.store.judge(lease, [Judgement(due.key, due.revision, settle=True)], VERSION)
            assert await world.end(lease, request, Fate.ACCEPTED, "1") == ["1"]
            assert [one.key for one in await world.due()] == ["2"]

        play(scenario)

    def test_acceptance_settles_the_revision_that_was_sent(self, play: Play) -> None:
        """A change in flight stays owed, and nothing is taken for known about the document at the API."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            world.touch("2")
            request = await world.send(lease, "1", "2")
            assert world.look("1")["digest"] is None
            world.touch("1")
            assert sorted(await world.end(lease, request, Fate.ACCEPTED, "1", "2", digest=b"x")) == ["1", "2"]
            changed, calm = world.look("1"), world.look("2")
            assert (changed["revision"], changed["settled_revision"], changed["digest"]) == (2, 1, None)
            assert (calm["revision"], calm["settled_revision"], calm["digest"]) == (1, 1, b"x")
            assert changed["first_change"]
            assert not calm["first_change"]
            assert [one.key for one in await world.due()] == ["1"]

        play(scenario)

    def test_first_change_moves_into_the_request_and_back(self, play: Play) -> None:
        """A claimed order's first change is the request's; a failure restores the older of both."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            assert not world.look("1")["first_change"]
            await world.end(lease, request, Fate.NOT_APPLIED, "1", attempted_before=False)
            assert world.look("1")["first_change"]

        play(scenario)

    def test_settling_twice_changes_nothing(self, play: Play) -> None:
        """The second settlement of one request is without effect, whatever it says."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            await world.end(lease, request, Fate.UNKNOWN, "1")
            assert await world.end(lease, request, Fate.ACCEPTED, "1", digest=b"x") == []
            assert world.look("1")["settled_revision"] == 0

        play(scenario)

    def test_settlement_touches_only_orders_of_its_own_request(self, play: Play) -> None:
        """An order that is in flight by a later request is not settled by an earlier one."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            world.touch("2")
            first = await world.send(lease, "1")
            second = await world.send(lease, "2")
            await world.end(lease, first, Fate.ACCEPTED, "1", "2", digest=b"x")
            assert world.look("2")["request_id"] == second
            assert world.look("2")["settled_revision"] == 0

        play(scenario)

    def test_unknown_outcome_holds_and_forgets_the_digest(self, play: Play) -> None:
        """After an unanswered request the order is owed, held, attempted, and its digest is not trusted."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            world.touch("1")
            request = await world.send(lease, "1")
            assert world.look("1")["digest"] is None  # whoever finds it open must not trust what was there before
            await world.end(lease, request, Fate.UNKNOWN, "1", digest=b"x", hold_secs=60.0, attempted_before=False)
            record = world.look("1")
            assert record["digest"] is None
            assert record["held"]
            assert record["ever_attempted"]
            assert await world.due() == []
            world.touch("1")  # a change does not override the fence
            assert await world.due() == []

        play(scenario)

    def test_request_that_never_left_is_undone(self, play: Play) -> None:
        """Known not sent: digest and first attempt are put back as they were."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            await world.end(lease, request, Fate.NOT_SENT, "1", attempted_before=False)
            assert not world.look("1")["ever_attempted"]
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            world.touch("1")
            due = (await world.due())[0]
            assert due.digest == b"x"
            request = await world.send(lease, "1")
            await world.end(lease, request, Fate.NOT_SENT, "1", digest=due.digest, attempted_before=True)
            assert world.look("1")["digest"] == b"x"
            assert world.look("1")["ever_attempted"]
            request = await world.send(lease, "1")
            world.touch("1")
            await world.end(lease, request, Fate.NOT_SENT, "1", digest=due.digest, attempted_before=True)
            assert world.look("1")["digest"] is None  # touched in flight: perhaps re-opened, so not trusted

        play(scenario)

    def test_quarantine_holds_exactly_its_revision(self, play: Play) -> None:
        """A refused order is not due until it changes; then it is sent alone, and acceptance clears all of it."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            await world.end(lease, request, Fate.QUARANTINED, "1", reason="rejected", attempted_before=False)
            record = world.look("1")
            assert (record["quarantine_revision"], record["attempts"]) == (1, 1)
            assert not record["ever_attempted"]
            assert await world.due() == []
            world.touch("1")
            due = (await world.due())[0]
            assert due.send_alone
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            record = world.look("1")
            assert (record["quarantine_revision"], record["attempts"], record["send_alone"]) == (None, 0, False)

        play(scenario)

    @pytest.mark.parametrize("fate", [Fate.NOT_SENT, Fate.NOT_APPLIED, Fate.DOUBTFUL, Fate.UNKNOWN])
    def test_only_an_orders_own_fault_is_an_attempt(self, play: Play, fate: Fate) -> None:
        """Whatever else becomes of a request costs its orders nothing: owed as before, no attempt, no quarantine."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), fate, "1", attempted_before=False)
            record = world.look("1")
            assert (record["attempts"], record["quarantine_revision"], record["settled_revision"]) == (0, None, 0)
            assert record["ever_attempted"] == (fate in (Fate.DOUBTFUL, Fate.UNKNOWN))
            assert record["first_change"]
            assert [one.key for one in await world.due()] == ["1"]

        play(scenario)

    def test_quarantine_of_a_request_whose_order_changed_holds_nothing(self, play: Play) -> None:
        """What was refused is the revision that was sent, not the one that came meanwhile."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            world.touch("1")
            await world.end(lease, request, Fate.QUARANTINED, "1", reason="rejected")
            assert [one.key for one in await world.due()] == ["1"]

        play(scenario)

    def test_quarantines_of_another_mapping_are_released_in_pages(self, play: Play) -> None:
        """A quarantine holds under the mapping version that judged it."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("1", "2", "3"):
                world.touch(key)
            judged = [Judgement(key, 1, quarantine="invalid", detail="no") for key in ("1", "2", "3")]
            assert sorted(await world.store.judge(lease, judged, VERSION)) == ["1", "2", "3"]
            assert await world.due() == []
            assert await world.store.release_quarantines(lease, VERSION, 2) == 0
            assert await world.store.release_quarantines(lease, "mapping-2", 2) == 2
            assert await world.store.release_quarantines(lease, "mapping-2", 2) == 1
            assert len(await world.due()) == 3

        play(scenario)

    def test_orders_accepted_under_another_mapping_are_assembled_anew(self, play: Play) -> None:
        """They are owed in the backfill with their digest; what is owed, held or in quarantine anyway is left alone."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("1", "2", "3", "4", "5"):
                world.touch(key)
            await world.store.judge(lease, [Judgement("4", 1, settle=True, hold=Hold.HELD)], VERSION)
            request = await world.send(lease, "1", "2", "3", "5")
            await world.end(lease, request, Fate.ACCEPTED, "1", "2", "3", "5", digest=b"d")
            world.touch("3")
            world.touch("5")
            await world.store.judge(lease, [Judgement("5", 2, quarantine="invalid", detail="no")], VERSION)
            assert await world.store.resend_changed(lease, VERSION, "", 10) == ("5", 0), "nothing is of another mapping"
            assert await world.store.resend_changed(lease, "mapping-2", "", 3) == ("3", 2)
            assert await world.store.resend_changed(lease, "mapping-2", "3", 3) == ("5", 0)
            assert await world.store.resend_changed(lease, "mapping-2", "5", 3) == (None, 0)
            assert sorted((one.key, one.revision, one.digest) for one in await world.due(lane=1)) == [
                ("1", 2, b"d"),
                ("2", 2, b"d"),
            ]
            assert [(one.key, one.revision) for one in await world.due()] == [("3", 2)]
            assert (world.look("4")["revision"], world.look("5")["revision"]) == (1, 2)
            await world.store.judge(lease, [Judgement("1", 2, settle=True)], "mapping-2")
            assert await world.store.resend_changed(lease, "mapping-2", "", 10) == ("5", 0), (
                "who resumes marks no twice"
            )

        play(scenario)

    def test_order_in_flight_under_another_mapping_is_assembled_anew(self, play: Play) -> None:
        """A request that the old mapping made does not settle what the new one has marked."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"d")
            world.touch("1")
            request = await world.send(lease, "1")
            assert await world.store.resend_changed(lease, "mapping-2", "", 10) == ("1", 1)
            await world.end(lease, request, Fate.ACCEPTED, "1", digest=b"e")
            [due] = await world.due()
            assert (due.revision, due.digest) == (3, None)

        play(scenario)

    def test_newest_reconcile_is_what_counts(self, play: Play) -> None:
        """None before the first; then the newest one's counts, and when it was."""

        async def scenario(world: World) -> None:
            assert await world.store.drift(world.destination) is None
            world.reconcile(1, 2, 3)
            world.reconcile(0, 5, 7)
            drift = await world.store.drift(world.destination)
            assert drift is not None
            assert drift.orders == {"missing": 0, "extra": 5, "different": 7}
            assert abs(drift.at - time.time()) < 600

        play(scenario)

    def test_judgement_holds_for_its_revision_only(self, play: Play) -> None:
        """What was judged before a change says nothing about what is there now."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            world.touch("1")
            assert await world.store.judge(lease, [Judgement("1", 1, settle=True)], VERSION) == []
            assert await world.store.judge(lease, [Judgement("1", 2, settle=True, hold=Hold.HELD)], VERSION) == ["1"]
            record = world.look("1")
            assert (record["settled_revision"], record["hold"]) == (2, "held")
            assert not record["first_change"]

        play(scenario)

    def test_waiting_order_is_looked_at_again_and_counts_its_wait(self, play: Play) -> None:
        """A waiting order comes back at its re-check time; its wait is counted from the first one."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            assert (await world.due())[0].waited_secs == 0
            wait = Judgement("1", 1, hold=Hold.WAITING, detail="no_root", recheck_secs=0.0)
            await world.store.judge(lease, [wait], VERSION)
            first = (await world.due())[0].waited_secs
            await world.store.judge(lease, [wait], VERSION)
            assert (await world.due())[0].waited_secs >= first
            await world.store.judge(
                lease, [Judgement("1", 1, hold=Hold.WAITING, detail="no_root", recheck_secs=60.0)], VERSION
            )
            assert await world.due() == []

        play(scenario)

    def test_open_requests_are_inherited_and_their_orders_held(self, play: Play) -> None:
        """A new leader gets what the old one left open, and the ledger of what it settled."""

        async def scenario(world: World) -> None:
            old = await world.lead()
            for key in ("1", "2"):
                world.touch(key)
            settled = await world.send(old, "1", body=b"x" * 10)
            await world.end(old, settled, Fate.ACCEPTED, "1", digest=b"x")
            left = await world.send(old, "2", body=b"x" * 20)
            await world.store.release_lease(old)
            new = await world.lead()
            requests, ledger = await world.store.inherit(new, 60.0)
            assert [(one.id, one.keys, one.size) for one in requests] == [(left, ("2",), 22)]
            assert [entry.size for entry in ledger] == [12]
            assert 50 < ledger[0].secs <= 60
            assert world.look("2")["held"]
            await world.end(new, left, Fate.UNKNOWN, "2")
            assert world.look("2")["request_id"] is None
            assert await world.due() == []
            assert (await world.store.inherit(new, 60.0))[0] == []

        play(scenario)

    def test_new_era_ends_every_lease(self, play: Play) -> None:
        """Whoever led before the state went back changes nothing any more, whatever epoch it has in common."""

        async def scenario(world: World) -> None:
            assert (await world.store.era()).number == 0
            old = await world.store.renew_lease(await world.lead(), 60.0)
            world.begin_era()
            era = await world.store.era()
            assert (era.number, era.targeted, era.replaying) == (1, False, True)
            assert 0 <= era.secs < 30
            with pytest.raises(LeaseLost):
                await world.store.renew_lease(old, 60.0)
            with pytest.raises(LeaseLost):
                await world.store.judge(old, [], VERSION)
            assert (await world.lead()).epoch > old.epoch

        play(scenario)

    def test_lease_of_a_state_that_went_back_is_lost(self, play: Play) -> None:
        """Same epoch, same holder, but fewer renewals than the holder knows of: this is not the state it leads."""

        async def scenario(world: World) -> None:
            lease = await world.store.renew_lease(await world.lead(), 60.0)
            await world.store.judge(lease, [], VERSION)
            world.forget_renewals()
            with pytest.raises(LeaseLost):
                await world.store.judge(lease, [], VERSION)
            with pytest.raises(LeaseLost):
                await world.store.renew_lease(lease, 60.0)
            await world.store.release_lease(lease)  # not its own: no effect
            assert await world.store.take_lease(world.destination, uuid4(), 60) is None

        play(scenario)

    def test_nothing_is_due_in_a_new_era_before_ingest_knows_how_far_to_read_again(self, play: Play) -> None:
        """Until then nobody holds the gate; afterwards it is the gate that holds."""

        async def scenario(world: World) -> None:
            world.touch("1")
            [due] = await world.due()
            world.begin_era()
            lease = await world.lead()
            request = await world.store.next_request()
            going = [Outgoing("1", due.revision, due.read_at, "V-1", b"{}")]
            assert await world.due() == []
            assert await world.store.due_among(world.destination, ["1"]) == []
            assert await world.store.reserve(lease, request, 0, going, VERSION) == []
            world.note_targets()
            assert [one.key for one in await world.due()] == ["1"]

        play(scenario)

    def test_digest_counts_in_its_own_era_alone(self, play: Play) -> None:
        """What was accepted before the state went back may have been overtaken; what is accepted after has not."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            world.touch("1")
            assert [one.digest for one in await world.due()] == [b"x"]
            world.begin_era()
            world.note_targets()
            world.end_replay()
            assert [one.digest for one in await world.due()] == [None]
            lease = await world.lead()
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"y")
            world.touch("1")
            assert [one.digest for one in await world.due()] == [b"y"]

        play(scenario)

    def test_what_a_lost_future_may_have_sent_counts_as_attempted(self, play: Play) -> None:
        """Owed when the state went back, or touched while Kafka is read again; not what became owed afterwards."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("draft", "later"):
                world.touch(key)
            await world.store.judge(lease, [Judgement(key, 1, settle=True) for key in ("draft", "later")], VERSION)
            world.touch("owed")
            world.begin_era()
            world.touch("draft")
            world.touch("read again")
            world.note_targets()
            world.end_replay()
            world.touch("owed")
            world.touch("later")
            world.touch("new")
            attempted = {one.key: one.ever_attempted for one in await world.due()}
            assert attempted == {"draft": True, "later": False, "new": False, "owed": True, "read again": True}
            # It stays so where nothing is sent of it.
            lease = await world.lead()
            await world.store.judge(lease, [Judgement("read again", 1, settle=True, hold=Hold.HELD)], VERSION)
            world.touch("read again")
            assert {one.key for one in await world.due() if one.ever_attempted} == {"draft", "owed", "read again"}
            refused = await world.send(lease, "read again")
            await world.end(lease, refused, Fate.NOT_APPLIED, "read again", attempted_before=True)
            assert world.look("read again")["ever_attempted"]

        play(scenario)

    def test_order_that_only_a_lost_future_may_have_sent_is_in_doubt(self, play: Play) -> None:
        """For as long as it is owed, also while it is parked; what was attempted as far as is known is not in doubt."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("sent")
            await world.end(lease, await world.send(lease, "sent"), Fate.ACCEPTED, "sent")
            world.touch("sent")
            world.touch("never")
            world.begin_era()
            world.note_targets()
            world.end_replay()
            lease = await world.lead()
            parked = Judgement("never", 1, hold=Hold.SHADOW, parked=True, placed_at=1.0)
            await world.store.judge(lease, [parked], VERSION)
            assert await world.store.release_parked(lease, Hold.SHADOW, Placed(), 10) == ["never"]
            world.touch("new")
            due = await world.due()
            assert {one.key: one.in_doubt for one in due} == {"never": True, "new": False, "sent": False}
            assert {one.key for one in due if one.ever_attempted} == {"never", "sent"}

        play(scenario)

    def test_what_a_person_decides_about_guarded_orders_counts_in_a_later_era(self, play: Play) -> None:
        """Whenever they were guarded: released ones may go to 0, discarded ones count as attempted."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("1", "2", "3"):
                world.touch(key)
            guarded = [Judgement(key, 1, hold=Hold.GUARDED, parked=True, placed_at=1.0) for key in ("1", "2", "3")]
            await world.store.judge(lease, guarded[:1], VERSION)
            world.begin_era()
            world.note_targets()
            world.end_replay()
            await world.store.judge(await world.lead(), guarded[1:], VERSION)
            world.decide_guarded("1", "2", release=True)
            world.decide_guarded("3", release=False)
            world.touch("3")
            due = {one.key: (one.zeroed, one.ever_attempted) for one in await world.due()}
            assert due == {"1": (True, True), "2": (True, True), "3": (False, True)}

        play(scenario)

    def test_what_is_owed_anew_in_an_era_is_of_that_era(self, play: Play) -> None:
        """By a new mapping or a late request: no future was lost since, and what was zeroed is known."""

        async def scenario(world: World) -> None:
            world.touch("1")
            world.touch("2")
            lease = await world.lead()
            request = await world.send(lease, "1", "2", zero=True)
            await world.end(lease, request, Fate.ACCEPTED, "1", "2")
            world.begin_era()
            world.note_targets()
            world.end_replay()
            await world.store.reopen(world.destination, ["1"], 0.0)
            await world.store.resend_changed(await world.lead(), "mapping-2", "", 10)
            due = [*await world.due(), *await world.due(lane=1)]
            assert sorted((one.key, one.zeroed) for one in due) == [("1", True), ("2", True)]

        play(scenario)

    def test_orders_lost_with_a_future_are_counted(self, play: Play) -> None:
        """Those that may stand at the API and that nothing is left to void with."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.store.judge(lease, [Judgement("1", 1, settle=True, hold=Hold.LOST)], VERSION)
            assert (await world.store.counts(world.destination)).orders["lost"] == 1
            world.touch("1")
            assert (await world.store.counts(world.destination)).orders["lost"] == 0

        play(scenario)

    def test_requests_that_are_open_or_count_are_not_let_go(self, play: Play) -> None:
        """However short the time for which requests are kept."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("open", "counting"):
                world.touch(key)
            left = await world.send(lease, "open")
            await world.end(lease, await world.send(lease, "counting"), Fate.ACCEPTED, "counting", counts_secs=60.0)
            assert await world.store.let_go(86_400.0, 86_400.0) == Gone()
            requests, ledger = await world.store.inherit(lease, 60.0)
            assert [one.id for one in requests] == [left]
            assert len(ledger) == 1

        play(scenario)

    def test_reopened_order_is_owed_even_if_its_present_request_is_accepted(self, play: Play) -> None:
        """What a late request may have overwritten is sent again: no later answer settles it, no digest stands."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            await world.store.reopen(world.destination, ["1"], 60.0)
            await world.end(lease, request, Fate.ACCEPTED, "1", digest=b"x")
            record = world.look("1")
            assert record["revision"] > record["settled_revision"]
            assert record["digest"] is None
            assert record["held"]

        play(scenario)

    def test_request_that_was_given_up_is_not_written_afterwards(self, play: Play) -> None:
        """Settled before its row came, it puts nothing in flight when its transaction is carried out after all."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            [due] = await world.due()
            request = await world.store.next_request()
            assert await world.end(lease, request, Fate.NOT_SENT, "1") == []
            late = [Outgoing("1", due.revision, due.read_at, "V-1", b"{}")]
            assert await world.store.reserve(lease, request, 0, late, VERSION) == []
            record = world.look("1")
            assert (record["request_id"], record["ever_attempted"], record["vendor_order_id"]) == (None, False, None)
            assert await world.store.inherit(lease, 60.0) == ([], [])
            await world.send(lease, "1")

        play(scenario)

    def test_vendor_id_has_one_holder(self, play: Play) -> None:
        """No two orders are sent under one id, unless one that is gone makes room."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.put_row(StoredRow("orders", "1", "1", {}))
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            world.touch("2")
            due = (await world.due())[0]
            number = await world.store.next_request()
            plain = Outgoing("2", due.revision, due.read_at, "V-1", b"{}")
            assert await world.store.reserve(lease, number, 0, [plain], VERSION) == []
            holder = (await world.store.holders(world.destination, ["V-1"], "orders"))["V-1"]
            assert (holder.key, holder.gone, holder.owed, holder.in_flight) == ("1", False, False, False)
            world.put_row(StoredRow("orders", "1", "1", {}, deleted=True))
            assert (await world.store.holders(world.destination, ["V-1"], "orders"))["V-1"].gone
            taking = Outgoing("2", due.revision, due.read_at, "V-1", b"{}", take_over="1")
            assert await world.store.reserve(lease, number, 0, [taking], VERSION) == ["2"]
            assert world.look("1")["vendor_order_id"] is None
            assert world.look("1")["hold"] == "superseded"
            assert world.look("2")["vendor_order_id"] == "V-1"

        play(scenario)

    def test_vendor_id_is_not_taken_over_while_a_request_may_still_land(self, play: Play) -> None:
        """An order whose last request was not answered keeps its id for the fence, deleted or not."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.put_row(StoredRow("orders", "1", "1", {}))
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.UNKNOWN, "1", hold_secs=60.0)
            world.put_row(StoredRow("orders", "1", "1", {}, deleted=True))
            holder = (await world.store.holders(world.destination, ["V-1"], "orders"))["V-1"]
            assert (holder.gone, holder.in_flight) == (True, True)
            world.touch("2")
            due = (await world.due())[0]
            taking = Outgoing("2", due.revision, due.read_at, "V-1", b"{}", take_over="1")
            assert await world.store.reserve(lease, await world.store.next_request(), 0, [taking], VERSION) == []
            assert world.look("1")["vendor_order_id"] == "V-1"

        play(scenario)

    def test_whatever_a_vendor_says_can_be_stored(self, play: Play) -> None:
        """A NUL in an error text is no reason to fail."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            settled = Settled("1", Fate.QUARANTINED, reason="rejected", detail="bad\x00name")
            await world.store.settle(lease, Settlement(request, "rejected", 400, "a\x00b", 60.0, (settled,)))
            assert await world.due() == []
            world.touch("1")
            [due] = await world.due()
            fault = Judgement("1", due.revision, quarantine="invalid", detail="x\x00")
            assert await world.store.judge(lease, [fault], VERSION) == ["1"]

        play(scenario)

    def test_a_quarantine_ends_the_wait(self, play: Play) -> None:
        """An order that waited, was quarantined and changed begins to wait anew."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.store.judge(lease, [Judgement("1", 1, hold=Hold.WAITING, detail="no_root")], VERSION)
            await world.store.judge(lease, [Judgement("1", 1, quarantine="waiting_no_root")], VERSION)
            world.touch("1")
            assert [one.waited_secs for one in await world.due()] == [0]

        play(scenario)

    def test_last_document_is_the_accepted_one_else_the_attempted(self, play: Play) -> None:
        """What is zeroed is what the API took, or may have taken."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1", body=b"first")
            await world.end(lease, request, Fate.UNKNOWN, "1")
            assert await world.store.last_documents(world.destination, ["1", "2"]) == {"1": b"first"}
            request = await world.send(lease, "1", body=b"second")
            await world.end(lease, request, Fate.ACCEPTED, "1", void=True)
            world.touch("1")
            request = await world.send(lease, "1", body=b"third")
            assert await world.store.last_documents(world.destination, ["1"]) == {"1": b"second"}
            assert world.look("1")["voided"]

        play(scenario)

    def test_rows_come_by_order_and_by_key(self, play: Play) -> None:
        """All rows of each order, and looked-up rows as far as there are any; numbers are exact."""

        async def scenario(world: World) -> None:
            world.put_row(StoredRow("orders", "1", "1", {"total": 10}))
            world.put_row(StoredRow("lines", "9", "1", {"x": None}, frozenset({"y"})))
            world.put_row(StoredRow("customers", "7", None, {"name": "Ada"}))
            rows = await world.store.rows_of(["1", "2"])
            assert sorted(row.source for row in rows["1"]) == ["lines", "orders"]
            assert rows["2"] == []
            line = next(row for row in rows["1"] if row.source == "lines")
            assert line.unknown == {"y"}
            world.put_row(StoredRow("tags", "70", None, {"tag": "red"}, parent="7"))
            world.put_row(StoredRow("tags", "80", None, {"tag": "blue"}, parent="8"))
            found = await world.store.rows_at([Wanted("customers", "7"), Wanted("customers", "8")])
            assert [(row.key, row.columns) for row in found] == [("7", {"name": "Ada"})]
            hanging = Wanted("tags", "7", below=True)
            found = await world.store.rows_at([hanging, Wanted("tags", "9", below=True), Wanted("customers", "7")])
            assert sorted((row.source, row.key, row.parent) for row in found) == [
                ("customers", "7", None),
                ("tags", "70", "7"),
            ]
            assert [hanging.fits(row) for row in sorted(found, key=lambda row: row.source)] == [False, True]

        play(scenario)

    def test_standing_is_remembered(self, play: Play) -> None:
        """Halt, pause, failures and size survive; an operator's pause is never overwritten."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.pause()
            await world.store.save_standing(lease, Standing(False, "401", 30.0, 3, 5000, VERSION))
            standing = await world.store.standing(world.destination)
            assert standing.paused
            assert (standing.halted, standing.failures, standing.largest_body) == ("401", 3, 5000)
            assert 25 < standing.pause_secs <= 30
            assert standing.mapping_version == VERSION
            await world.store.save_standing(lease, Standing())
            standing = await world.store.standing(world.destination)
            assert (standing.halted, standing.pause_secs, standing.failures) == (None, 0, 0)

        play(scenario)

    def test_halt_that_a_person_ended_is_not_saved_again(self, play: Play) -> None:
        """By a leader that has not heard of it yet; a new halt is."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            await world.store.save_standing(lease, Standing(halted="status 401"))
            world.resume()
            await world.store.save_standing(lease, Standing(halted="status 401", failures=1), was_halted=True)
            standing = await world.store.standing(world.destination)
            assert (standing.halted, standing.failures) == (None, 1)
            assert (await world.store.counts(world.destination)).holds["halted"] == 0
            await world.store.save_standing(lease, Standing(halted="status 403"))
            assert (await world.store.standing(world.destination)).halted == "status 403"

        play(scenario)

    def test_parked_order_is_not_sent_at_its_revision(self, play: Play) -> None:
        """It is neither due nor to be put in flight, until it changes; then it is judged anew, and sent."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            [due] = await world.due()
            parked = Judgement("1", 1, hold=Hold.GUARDED, parked=True, placed_at=50.5, body_bytes=7)
            assert await world.store.judge(lease, [parked], VERSION) == ["1"]
            record = world.look("1")
            assert (record["parked_revision"], record["hold"]) == (1, "guarded")
            assert (record["placed_at"], record["body_bytes"]) == (50.5, 7)
            assert await world.due() == []
            assert await world.store.due_among(world.destination, ["1"]) == []
            going = [Outgoing("1", 1, due.read_at, "V-1", b"{}")]
            assert await world.store.reserve(lease, await world.store.next_request(), 0, going, VERSION) == []
            world.touch("1")
            assert [one.key for one in await world.due()] == ["1"]
            assert await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1") == ["1"]
            record = world.look("1")
            assert (record["parked_revision"], record["hold"], record["settled_revision"]) == (None, None, 2)

        play(scenario)

    @pytest.mark.parametrize("judged", [{"settle": True}, {"quarantine": "invalid"}, {"hold": Hold.WAITING}])
    def test_another_judgement_ends_the_parking(self, play: Play, judged: dict[str, Any]) -> None:
        """What was parked at an earlier revision is what it is judged to be now."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            await world.park(lease, Hold.BACKFILL, one=5.0)
            world.touch("one", lane=1)
            assert await world.store.judge(lease, [Judgement("one", 2, **judged)], VERSION) == ["one"]
            assert world.look("one")["parked_revision"] is None

        play(scenario)

    def test_parked_orders_are_released_oldest_first(self, play: Play) -> None:
        """Page by page, of one reason and one range, and due in that very order."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            await world.park(lease, Hold.BACKFILL, d=40.0, b=20.0, a=10.0, c=30.0, e=50.0, b2=20.0)
            await world.park(lease, Hold.SHADOW, s=25.0)
            asked = Placed(20.0, 50.0)
            world.ask(asked)
            assert await world.store.release_parked(lease, Hold.BACKFILL, asked, 3) == ["b", "b2", "c"]
            standing = await world.store.standing(world.destination)
            assert standing.asked == Asked(asked, 30.0)
            assert [one.key for one in await world.due(lane=1)] == ["b", "b2", "c"]
            assert await world.store.release_parked(lease, Hold.BACKFILL, asked, 3) == ["d"]
            assert await world.store.release_parked(lease, Hold.BACKFILL, asked, 3) == []
            assert [one.key for one in await world.due(lane=1)] == ["b", "b2", "c", "d"]
            assert await world.store.release_parked(lease, Hold.SHADOW, Placed(), 3) == ["s"]
            assert (await world.store.standing(world.destination)).asked == Asked(asked, 40.0)

        play(scenario)

    def test_what_was_asked_for_is_remembered(self, play: Play) -> None:
        """The same range again goes on where it is, another one begins anew; nobody but the operator changes it."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            assert (await world.store.standing(world.destination)).asked is None
            await world.park(lease, Hold.BACKFILL, a=10.0, b=20.0)
            world.ask(Placed(since=5.0))
            await world.store.release_parked(lease, Hold.BACKFILL, Placed(since=5.0), 1)
            await world.store.save_standing(lease, Standing(failures=2))
            world.ask(Placed(since=5.0))
            assert (await world.store.standing(world.destination)).asked == Asked(Placed(since=5.0), 10.0)
            world.ask(Placed())
            assert (await world.store.standing(world.destination)).asked == Asked(Placed())
            await world.store.release_parked(lease, Hold.BACKFILL, Placed(since=5.0), 1)
            assert (await world.store.standing(world.destination)).asked == Asked(Placed())
            world.ask(None)
            assert (await world.store.standing(world.destination)).asked is None

        play(scenario)

    def test_parked_orders_are_counted_apart(self, play: Play) -> None:
        """With their bytes and age by reason; they are not among the owed ones, nor do they make those look old."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            await world.park(lease, Hold.BACKFILL, a=10.0, b=20.0)
            await world.park(lease, Hold.GUARDED, c=10.0)
            world.touch("d")
            counts = await world.store.counts(world.destination)
            assert {state: count for state, count in counts.orders.items() if count} == {"owed_live": 1}
            assert set(counts.oldest_secs) == {0}
            parked = await world.store.parked(world.destination)
            assert {hold: (one.orders, one.size) for hold, one in parked.items()} == {
                Hold.BACKFILL: (2, 200),
                Hold.GUARDED: (1, 100),
            }
            assert all(0 <= one.oldest_secs < 60 for one in parked.values())
            world.touch("c", lane=1)
            assert Hold.GUARDED not in await world.store.parked(world.destination)
            assert (await world.store.counts(world.destination)).orders["owed_backfill"] == 1

        play(scenario)

    @pytest.mark.parametrize(
        ("fate", "zeroed"),
        [
            (Fate.ACCEPTED, True),
            (Fate.UNKNOWN, True),
            (Fate.DOUBTFUL, True),
            (Fate.NOT_SENT, False),
            (Fate.NOT_APPLIED, False),
            (Fate.QUARANTINED, False),
        ],
    )
    def test_zeroed_is_what_may_have_been_applied(self, play: Play, fate: Fate, zeroed: bool) -> None:
        """An order is zeroed by a document without a total, unless nothing of it was applied; another one ends that."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1")
            assert not world.look("1")["zeroed"]
            world.touch("1")
            request = await world.send(lease, "1", zero=True)
            assert world.look("1")["zeroed"]
            await world.end(lease, request, fate, "1", zeroed_before=False)
            assert world.look("1")["zeroed"] is zeroed
            world.touch("1")
            [due] = await world.store.due_among(world.destination, ["1"])
            assert due.zeroed is zeroed
            await world.end(lease, await world.send(lease, "1"), Fate.UNKNOWN, "1")
            assert not world.look("1")["zeroed"]

        play(scenario)

    def test_zeroed_orders_count_an_hour_longer_than_bytes(self, play: Play) -> None:
        """Whoever takes over finds what open and ended requests have zeroed, and only those."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("1", "2", "3"):
                world.touch(key)
            ended = await world.send(lease, "1", zero=True)
            await world.end(lease, ended, Fate.ACCEPTED, "1", counts_secs=0.0, zeroed=1)
            plain = await world.send(lease, "2", zero=True)
            await world.end(lease, plain, Fate.NOT_SENT, "2", counts_secs=0.0, zeroed=0)
            await world.send(lease, "3", zero=True)
            requests, ledger = await world.store.inherit(lease, 60.0)
            assert [one.zeroed for one in requests] == [1]
            assert [(entry.secs <= 0, entry.zeroed) for entry in ledger] == [(True, 1)]

        play(scenario)

    def test_released_order_may_go_to_zero(self, play: Play) -> None:
        """It is due as it was and zeroed by permission; one that is not guarded is passed over."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            await world.park(lease, Hold.GUARDED, a=10.0, b=10.0)
            await world.park(lease, Hold.BACKFILL, c=10.0)
            world.decide_guarded("a", "c", "nobody", release=True)
            assert [(one.key, one.zeroed) for one in await world.due(lane=1)] == [("a", True)]
            assert world.look("b")["hold"] == "guarded"
            assert not world.look("c")["zeroed"]

        play(scenario)

    def test_discarded_order_is_settled_until_it_changes(self, play: Play) -> None:
        """Nothing is owed, and what is known of the API's copy stays known."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            world.touch("1")
            await world.store.judge(lease, [Judgement("1", 2, hold=Hold.GUARDED, parked=True)], VERSION)
            world.touch("2")
            world.decide_guarded("1", "2", release=False)
            record = world.look("1")
            assert (record["settled_revision"], record["hold"], record["digest"]) == (2, "discarded", b"x")
            assert not record["first_change"]
            assert [one.key for one in await world.due()] == ["2"]
            world.touch("1")
            assert [(one.key, one.digest, one.zeroed) for one in await world.due()] == [
                ("2", None, False),
                ("1", b"x", False),
            ]

        play(scenario)

    def test_erased_order_is_cleared_before_it_is_settled(self, play: Play) -> None:
        """It is owed until a document without its customer and then the PATCH were accepted; then it is judged anew."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            [before] = await world.due()
            await world.end(lease, await world.send(lease, "1", body=b"with"), Fate.ACCEPTED, "1", digest=b"x")
            world.erase("1", body=b"without", clear="customer_email")
            [due] = await world.due()
            assert (due.digest, due.clear) == (None, ("customer_email",))
            assert await world.store.last_documents(world.destination, ["1"]) == {"1": b"without"}
            old = Outgoing("1", before.revision, before.read_at, "V-1", b"with")
            assert await world.store.reserve(lease, await world.store.next_request(), 0, [old], VERSION) == []
            # A PATCH whose end is not known leaves everything to be done again.
            for fate, digest in ((Fate.UNKNOWN, None), (Fate.ACCEPTED, b"y")):
                await world.end(lease, await world.send(lease, "1", body=b"without"), Fate.ACCEPTED, "1", digest=b"y")
                [due] = await world.due()
                assert (due.digest, due.clear) == (b"y", ("customer_email",))
                assert world.look("1")["first_change"]
                request = await world.send(lease, "1", body=b"null", clears=True)
                await world.end(lease, request, fate, "1", digest=b"y", clears=True)
                [due] = await world.due()
                assert (due.digest, bool(due.clear)) == (digest, fate is Fate.UNKNOWN)
            assert await world.store.last_documents(world.destination, ["1"]) == {"1": b"without"}
            assert world.look("1")["body_bytes"] == len(b"without")
            await world.store.judge(lease, [Judgement("1", due.revision, settle=True)], VERSION)
            assert await world.due() == []

        play(scenario)

    def test_erased_order_that_changes_meanwhile_stays_owed(self, play: Play) -> None:
        """A change between the document and the PATCH is sent like any other; the PATCH does not stand for it."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1", body=b"with")
            world.erase("1", body=b"without", clear="customer_email")
            await world.end(lease, request, Fate.ACCEPTED, "1", digest=b"x")
            [due] = await world.due()
            assert (due.digest, due.clear) == (None, ("customer_email",))
            assert await world.store.last_documents(world.destination, ["1"]) == {"1": b"without"}
            await world.end(lease, await world.send(lease, "1", body=b"without"), Fate.ACCEPTED, "1", digest=b"y")
            request = await world.send(lease, "1", body=b"null", clears=True)
            world.touch("1")
            await world.end(lease, request, Fate.ACCEPTED, "1", digest=b"y", clears=True)
            [due] = await world.due()
            assert (due.digest, due.clear) == (None, ())

        play(scenario)

    @pytest.mark.parametrize("fate", [Fate.NOT_SENT, Fate.NOT_APPLIED, Fate.QUARANTINED])
    def test_what_was_erased_in_flight_and_not_applied_is_not_cleared(self, play: Play, fate: Fate) -> None:
        """The API has nothing of it: it is judged by its rows, not by the document that was refused."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("1")
            request = await world.send(lease, "1")
            world.erase("1", body=b"without", clear="customer_email")
            await world.end(lease, request, fate, "1", attempted_before=False)
            assert [one.clear for one in await world.due()] == [()]
            await world.end(lease, await world.send(lease, "1"), Fate.ACCEPTED, "1", digest=b"x")
            world.erase("1", body=b"without", clear="customer_email")
            await world.end(lease, await world.send(lease, "1"), fate, "1", attempted_before=True)
            world.touch("1")
            assert [one.clear for one in await world.due()] == [("customer_email",)]

        play(scenario)

    def test_what_was_never_sent_is_not_cleared(self, play: Play) -> None:
        """The API has nothing of it; and what a person had it keep, it keeps, but for the customer."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            world.touch("new")
            world.erase("new", body=b"without", clear="customer_email")
            assert [one.clear for one in await world.due()] == [()]
            await world.end(lease, await world.send(lease, "new"), Fate.ACCEPTED, "new", digest=b"x")
            assert await world.due() == []
            world.touch("new")
            [due] = await world.due()
            guarded = Judgement("new", due.revision, hold=Hold.GUARDED, parked=True)
            await world.store.judge(lease, [guarded], VERSION)
            world.decide_guarded("new", release=False)
            world.erase("new", body=b"without", clear="customer_email")
            await world.end(lease, await world.send(lease, "new", body=b"without"), Fate.ACCEPTED, "new", digest=b"y")
            request = await world.send(lease, "new", body=b"null", clears=True)
            await world.end(lease, request, Fate.ACCEPTED, "new", digest=b"y", clears=True)
            assert await world.due() == []
            assert world.look("new")["hold"] == "discarded"

        play(scenario)

    def test_permission_to_go_to_zero_ends_where_the_order_stays_as_it_was(self, play: Play) -> None:
        """Its cause was mended before it was sent: the guard counts it the next time."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            await world.park(lease, Hold.GUARDED, a=10.0, b=10.0)
            world.decide_guarded("a", "b", release=True)
            unchanged = [Judgement("a", 1, settle=True, zero=False), Judgement("b", 1, settle=True, zero=True)]
            await world.store.judge(lease, unchanged, VERSION)
            assert (world.look("a")["zeroed"], world.look("b")["zeroed"]) == (False, True)

        play(scenario)

    def test_discarded_order_does_not_follow_a_new_mapping(self, play: Play) -> None:
        """It stays at the API as it is until its rows change."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("1", "2"):
                world.touch(key)
            await world.end(lease, await world.send(lease, "1", "2"), Fate.ACCEPTED, "1", "2", digest=b"x")
            world.touch("1")
            await world.store.judge(lease, [Judgement("1", 2, hold=Hold.GUARDED, parked=True)], VERSION)
            world.decide_guarded("1", release=False)
            assert await world.store.resend_changed(lease, "mapping-2", "", 10) == ("2", 1)
            assert [one.key for one in await world.due(lane=1)] == ["2"]
            world.touch("1")
            request = await world.send(lease, "1")
            assert await world.store.resend_changed(lease, "mapping-2", "", 10) == ("2", 1), "in flight it is none"
            await world.end(lease, request, Fate.ACCEPTED, "1")
            assert [one.key for one in await world.due()] == ["1"]

        play(scenario)

    def test_pause_and_halt_have_an_age_and_an_end(self, play: Play) -> None:
        """Resuming ends both."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            assert set((await world.store.counts(world.destination)).holds.values()) == {0.0}
            world.pause()
            await world.store.save_standing(lease, Standing(halted="401"))
            holds = (await world.store.counts(world.destination)).holds
            assert {name for name, age in holds.items() if age > 0} == {"paused", "halted"}
            world.resume()
            standing = await world.store.standing(world.destination)
            assert (standing.paused, standing.halted) == (False, None)
            assert set((await world.store.counts(world.destination)).holds.values()) == {0.0}

        play(scenario)

    def test_counts_tell_owed_orders_by_state(self, play: Play) -> None:
        """Every order that is not clean is counted once, under what it waits for."""

        async def scenario(world: World) -> None:
            lease = await world.lead()
            for key in ("clean", "flying", "bad", "waiting", "live", "draft", "void"):
                world.touch(key)
            world.touch("old", lane=1)
            drafts = [
                Judgement("draft", 1, settle=True, hold=Hold.HELD),
                Judgement("void", 1, settle=True, hold=Hold.VOID),
            ]
            await world.store.judge(lease, drafts, VERSION)
            await world.end(lease, await world.send(lease, "clean"), Fate.ACCEPTED, "clean", digest=b"x")
            await world.send(lease, "flying")
            await world.store.judge(
                lease,
                [Judgement("bad", 1, quarantine="invalid"), Judgement("waiting", 1, hold=Hold.WAITING)],
                VERSION,
            )
            counts = await world.store.counts(world.destination)
            assert counts.orders == {
                "owed_live": 1,
                "owed_backfill": 1,
                "in_flight": 1,
                "quarantined": 1,
                "waiting": 1,
                "held": 1,
                "lost": 0,
            }
            assert set(counts.oldest_secs) == {0, 1}

        play(scenario)
