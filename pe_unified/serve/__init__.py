"""The reader's screen: a worklist of reports and a viewer, in a browser on this machine."""
