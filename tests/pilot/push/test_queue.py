"""Who is to be pushed to."""

from pilot.push.queue import PushQueue, PushRequest


def test_in_order_of_first_need() -> None:
    queue = PushQueue()
    queue.put("a", PushRequest(False, 1.0, frozenset({"endpoint"})))
    queue.put("b", PushRequest(True, 2.0))
    queue.put("a", PushRequest(True, 3.0, frozenset({"config"})))
    assert len(queue) == 2
    assert queue.take() == ("a", PushRequest(True, 1.0, frozenset({"endpoint", "config"})))
    queue.forget("b")
    queue.forget("unknown")
    assert queue.take() is None
