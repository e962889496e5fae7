"""The lab: real servers in containers, a stand-in for the i-Reporter server, its data and its load. Test equipment only."""
