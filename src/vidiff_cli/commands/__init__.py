"""One module or package for each command; commands never import each other."""
