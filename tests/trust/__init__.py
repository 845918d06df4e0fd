"""What a store and a run have to outlive: kills, faults, lost power, flipped bits, hostile files.

One code base, two tiers. ``make test`` runs a few cases of every campaign (tests/test_trust.py); ``make soak`` runs all
of them and writes docs/reliability.md from what it saw. A single case again:

    python -m tests.trust kills --seed 7 --case 113
"""
