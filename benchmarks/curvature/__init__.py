"""How much curvature costs, and how exact it is, beside other tools."""
