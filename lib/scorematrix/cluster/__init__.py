"""Run rounds on a Ray cluster (optional extra). Only the command line imports this room, and only this room Ray."""

from scorematrix.cluster.connect import connected
from scorematrix.cluster.nodes import Node, demand, nodes_for
from scorematrix.cluster.run import NodesLost, fill_on_cluster

__all__ = ["Node", "NodesLost", "connected", "demand", "fill_on_cluster", "nodes_for"]
