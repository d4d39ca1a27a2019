"""The loopback QPU: a server on this machine that the unmodified qiskit-ibm-runtime client takes for IBM's.

It is for rehearsing a hardware run to the end before paying for it, and for tests. It speaks IBM Quantum Platform's
HTTP interface on 127.0.0.1, behind a proxy that leads to IBM's host names only, with certificates of its own that are
installed nowhere; jobs are kept on disk and survive both the client and the server.

It is not a quantum computer: results are simulations by Qiskit Aer with the noise of a calibration snapshot, a best
case. Nothing leaves the machine and nothing is charged. Error mitigation (resilience levels, twirling, dynamical
decoupling) is accepted and recorded, but not simulated; nor are dynamic circuits.
"""
