"""The proxy. Imports mesh only; alphabetical order of the sub-packages is the order in which a request passes.

codec (what a message is) -> downstream (bytes in) -> exchange (one request and its response) ->
policy (may this peer?) -> route (where to?) -> upstream (bytes out). agent.py is the nursery tree,
plan.py one compiled snapshot, feed.py the subscription to the pilot, admin.py the operator's door.
"""
