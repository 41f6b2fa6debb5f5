"""geossl: self-supervised training sets of Sentinel-1 and Sentinel-2."""
