"""``pfmoc run``: one workflow over one or more compute resources. A client of the API, not a part of the daemon."""
