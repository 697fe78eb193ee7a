"""Flower as a window: read only, on this machine only; what it shows of a task are ids."""

address = "127.0.0.1"
read_only = True
natural_time = True
tasks_columns = "name,uuid,state,args,received,started,runtime,worker"
