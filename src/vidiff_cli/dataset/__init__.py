"""The dataset format: schema, shards, rows, index, export; and worlds that are read like one."""
