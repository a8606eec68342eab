"""The parts that a study is painted from; `pe_unified.ct.phantom` puts them together."""
