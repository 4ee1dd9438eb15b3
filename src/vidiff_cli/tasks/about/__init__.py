"""What `vidiff info` says about each kind of thing. Fields are stable: they are the keys of --json.

Everything read here comes from files that anybody may have made: it is described, never trusted.
"""
