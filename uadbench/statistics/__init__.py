"""How sure a difference is: intervals, paired tests, ranks and their spread, and the critical-difference diagram.

Values are (m, n): m methods on the same n subjects. The unit is the subject, because voxels and slices of one subject are
not independent. A value that is NaN or infinite is undefined; what is left out because of it is counted. Everything random
follows from a seed, and one seed gives all methods the same resamples, so that their draws pair up.
"""
