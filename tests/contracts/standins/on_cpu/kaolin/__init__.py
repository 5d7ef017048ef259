"""A stand-in for kaolin: the one check that FlexiCubes asks it for."""
