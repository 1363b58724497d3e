"""What would happen until a day: the daily jobs, day by day, on a clock that is set (issue 4).

days      a clock that is set, and the daily jobs of one business day
figures   what a month came to, and what was not billed
service   the simulation on a scratch database
"""
