from pfgm.networks.base import FieldNetwork as FieldNetwork
from pfgm.networks.build import build_network as build_network
from pfgm.networks.build import check_network as check_network
from pfgm.networks.build import describe_network as describe_network
from pfgm.networks.cost import network_cost as network_cost
