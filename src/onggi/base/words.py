"""The words that containers without a name get theirs from: a good quality and somebody who made or found things."""

from typing import Final

_ADJECTIVES: Final = """
amber ample apt artful austere balanced blithe bold brave breezy bright brisk buoyant burnished calm candid celadon
cheerful clear clever cordial cosy courtly crisp curious dapper daring deft dewy diligent eager earnest earthen easy
elegant ember faithful fearless fine fired fleet fluent fond frank fresh frosty gallant genial gentle glad glazed
gleaming golden graceful grand hale handy hardy hearty honest humble inlaid ivory jade jaunty jolly joyous keen kind
kindled limber lively loyal lucid lucky mellow merry mild mindful modest mossy neat nimble noble open patient peppy
placid plucky polished pure quaint quick quiet ready robust rosy rustic serene sharp silken sincere smooth snug sober
sound spry stable staunch steady still stout sturdy sunny supple sure swift tawny tender thrifty tidy tranquil trusty
upbeat valiant vivid warm whimsical wise witty woven zesty
"""
_MAKERS: Final = """
agnesi ampere archimedes aryabhata avogadro babbage banneker bardeen bassi bell bernoulli blackwell bohr boltzmann
bose boyle brahmagupta cantor carson cauchy cavendish celsius chandrasekhar clarke cole coper copernicus coulomb curie
dalton darwin davy democritus descartes dirac doppler duckworth einstein erdos euclid euler faraday fermat fermi
feynman fibonacci fleming foucault fourier franklin galileo galois gauss germain gibbs goodall hamada hamilton hawking
heisenberg helmholtz hertz hilbert hipparchus hodgkin hooke hopper hubble huygens hypatia jang johnson joule kawai
kelvin kenzan kepler khayyam khwarizmi kovalevskaya kwolek lagrange lamarr laplace lavoisier leach leavitt leibniz
lovelace mach marconi martinez maxwell mayer mccarthy meitner mendel mendeleev mirzakhani morse napier newton
nightingale ninsei noether odundo ohm palissy pascal pasteur pauli payne perey planck poincare ptolemy pythagoras
raman ramanujan rie rontgen rutherford sagan sejong shannon shimaoka sinan spode staite tesla thales torricelli turing
volta voulkos wedgwood wegener woo wren wu yalow yi yukawa zeno zhang
"""

ADJECTIVES: Final = tuple(_ADJECTIVES.split())
"""Qualities, many of them of pots."""
MAKERS: Final = tuple(_MAKERS.split())
"""Scientists, mathematicians, engineers, and potters."""
