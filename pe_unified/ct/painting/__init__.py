"""The parts that a study is painted from; `pe_unified.phantom.study` puts them together."""
