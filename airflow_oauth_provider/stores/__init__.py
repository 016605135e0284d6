"""Token stores: where the tokens of a connection live, one module a store."""
