"""The control plane. Imports mesh only. A change passes sources -> resources -> store -> translate -> push.

ca/ signs workload certificates, admin.py is the operator's and meshctl's door, pilot.py the nursery tree.
"""
