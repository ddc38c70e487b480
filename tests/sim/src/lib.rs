//! Simulation of a whole cluster.
