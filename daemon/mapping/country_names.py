"""English names of countries (Unicode CLDR) and other usual spellings (ISO 3166), each with its alpha-3 code.

A name is compared without case, accents and punctuation, so that `Cote d'Ivoire` is `Côte d'Ivoire`.
"""

from __future__ import annotations

import unicodedata

_NAMES = """
AND:Andorra;ARE:United Arab Emirates;AFG:Afghanistan;ATG:Antigua & Barbuda;AIA:Anguilla;ALB:Albania;ARM:Armenia
AGO:Angola;ATA:Antarctica;ARG:Argentina;ASM:American Samoa;AUT:Austria;AUS:Australia;ABW:Aruba;ALA:Åland Islands
AZE:Azerbaijan;BIH:Bosnia & Herzegovina;BRB:Barbados;BGD:Bangladesh;BEL:Belgium;BFA:Burkina Faso;BGR:Bulgaria
BHR:Bahrain;BDI:Burundi;BEN:Benin;BLM:St. Barthélemy;BMU:Bermuda;BRN:Brunei;BOL:Bolivia;BES:Caribbean Netherlands
BRA:Brazil;BHS:Bahamas;BTN:Bhutan;BVT:Bouvet Island;BWA:Botswana;BLR:Belarus;BLZ:Belize;CAN:Canada
CCK:Cocos (Keeling) Islands;COD:Congo - Kinshasa;CAF:Central African Republic;COG:Congo - Brazzaville;CHE:Switzerland
CIV:Côte d'Ivoire;COK:Cook Islands;CHL:Chile;CMR:Cameroon;CHN:China;COL:Colombia;CRI:Costa Rica;CUB:Cuba
CPV:Cape Verde;CUW:Curaçao;CXR:Christmas Island;CYP:Cyprus;CZE:Czechia;DEU:Germany;DJI:Djibouti;DNK:Denmark
DMA:Dominica;DOM:Dominican Republic;DZA:Algeria;ECU:Ecuador;EST:Estonia;EGY:Egypt;ESH:Western Sahara;ERI:Eritrea
ESP:Spain;ETH:Ethiopia;FIN:Finland;FJI:Fiji;FLK:Falkland Islands;FSM:Micronesia;FRO:Faroe Islands;FRA:France;GAB:Gabon
GBR:United Kingdom;GRD:Grenada;GEO:Georgia;GUF:French Guiana;GGY:Guernsey;GHA:Ghana;GIB:Gibraltar;GRL:Greenland
GMB:Gambia;GIN:Guinea;GLP:Guadeloupe;GNQ:Equatorial Guinea;GRC:Greece;SGS:South Georgia & South Sandwich Islands
GTM:Guatemala;GUM:Guam;GNB:Guinea-Bissau;GUY:Guyana;HKG:Hong Kong SAR China;HMD:Heard Island & McDonald Islands
HND:Honduras;HRV:Croatia;HTI:Haiti;HUN:Hungary;IDN:Indonesia;IRL:Ireland;ISR:Israel;IMN:Isle of Man;IND:India
IOT:British Indian Ocean Territory;IRQ:Iraq;IRN:Iran;ISL:Iceland;ITA:Italy;JEY:Jersey;JAM:Jamaica;JOR:Jordan;JPN:Japan
KEN:Kenya;KGZ:Kyrgyzstan;KHM:Cambodia;KIR:Kiribati;COM:Comoros;KNA:St. Kitts & Nevis;PRK:North Korea;KOR:South Korea
KWT:Kuwait;CYM:Cayman Islands;KAZ:Kazakhstan;LAO:Laos;LBN:Lebanon;LCA:St. Lucia;LIE:Liechtenstein;LKA:Sri Lanka
LBR:Liberia;LSO:Lesotho;LTU:Lithuania;LUX:Luxembourg;LVA:Latvia;LBY:Libya;MAR:Morocco;MCO:Monaco;MDA:Moldova
MNE:Montenegro;MAF:St. Martin;MDG:Madagascar;MHL:Marshall Islands;MKD:North Macedonia;MLI:Mali;MMR:Myanmar (Burma)
MNG:Mongolia;MAC:Macao SAR China;MNP:Northern Mariana Islands;MTQ:Martinique;MRT:Mauritania;MSR:Montserrat;MLT:Malta
MUS:Mauritius;MDV:Maldives;MWI:Malawi;MEX:Mexico;MYS:Malaysia;MOZ:Mozambique;NAM:Namibia;NCL:New Caledonia;NER:Niger
NFK:Norfolk Island;NGA:Nigeria;NIC:Nicaragua;NLD:Netherlands;NOR:Norway;NPL:Nepal;NRU:Nauru;NIU:Niue;NZL:New Zealand
OMN:Oman;PAN:Panama;PER:Peru;PYF:French Polynesia;PNG:Papua New Guinea;PHL:Philippines;PAK:Pakistan;POL:Poland
SPM:St. Pierre & Miquelon;PCN:Pitcairn Islands;PRI:Puerto Rico;PSE:Palestinian Territories;PRT:Portugal;PLW:Palau
PRY:Paraguay;QAT:Qatar;REU:Réunion;ROU:Romania;SRB:Serbia;RUS:Russia;RWA:Rwanda;SAU:Saudi Arabia;SLB:Solomon Islands
SYC:Seychelles;SDN:Sudan;SWE:Sweden;SGP:Singapore;SHN:St. Helena, Ascension & Tristan da Cunha;SVN:Slovenia
SJM:Svalbard & Jan Mayen;SVK:Slovakia;SLE:Sierra Leone;SMR:San Marino;SEN:Senegal;SOM:Somalia;SUR:Suriname
SSD:South Sudan;STP:São Tomé & Príncipe;SLV:El Salvador;SXM:Sint Maarten;SYR:Syria;SWZ:Eswatini
TCA:Turks & Caicos Islands;TCD:Chad;ATF:French Southern and Antarctic Lands;TGO:Togo;THA:Thailand;TJK:Tajikistan
TKL:Tokelau;TLS:Timor-Leste;TKM:Turkmenistan;TUN:Tunisia;TON:Tonga;TUR:Türkiye;TTO:Trinidad & Tobago;TUV:Tuvalu
TWN:Taiwan;TZA:Tanzania;UKR:Ukraine;UGA:Uganda;UMI:U.S. Outlying Islands;USA:United States;URY:Uruguay;UZB:Uzbekistan
VAT:Vatican City;VCT:St. Vincent & Grenadines;VEN:Venezuela;VGB:British Virgin Islands;VIR:U.S. Virgin Islands
VNM:Vietnam;VUT:Vanuatu;WLF:Wallis & Futuna;WSM:Samoa;YEM:Yemen;MYT:Mayotte;ZAF:South Africa;ZMB:Zambia;ZWE:Zimbabwe
"""
_OTHER_SPELLINGS = """
BES:Bonaire, Sint Eustatius and Saba;BOL:Bolivia, Plurinational State of;BRN:Brunei Darussalam;CCK:Cocos Islands
CIV:Ivory Coast;COD:Congo, The Democratic Republic of the;COD:Democratic Republic of the Congo;COD:DR Congo;COG:Congo
COG:Republic of the Congo;CPV:Cabo Verde;CZE:Czech Republic;FLK:Falkland Islands (Malvinas)
FSM:Micronesia, Federated States of;FSM:Federated States of Micronesia;GBR:Great Britain
GBR:United Kingdom of Great Britain and Northern Ireland;HKG:Hong Kong;IRN:Iran, Islamic Republic of
KOR:Korea, Republic of;KOR:Republic of Korea;KNA:Saint Kitts and Nevis;LAO:Lao People's Democratic Republic;MAC:Macao
MAC:Macau;MAF:Saint Martin (French part);MDA:Moldova, Republic of;MDA:Republic of Moldova;MKD:Macedonia;MMR:Myanmar
MMR:Burma;NLD:The Netherlands;PCN:Pitcairn;PRK:Korea, Democratic People's Republic of;PSE:Palestine
PSE:Palestine, State of;PSE:State of Palestine;RUS:Russian Federation;SGS:South Georgia and the South Sandwich Islands
SHN:Saint Helena;SHN:Saint Helena, Ascension and Tristan da Cunha;SWZ:Swaziland;SXM:Sint Maarten (Dutch part)
SYR:Syrian Arab Republic;TLS:East Timor;TUR:Turkey;TWN:Taiwan, Province of China;TZA:Tanzania, United Republic of
TZA:United Republic of Tanzania;UMI:United States Minor Outlying Islands;USA:United States of America;VAT:Holy See
VAT:Holy See (Vatican City State);VCT:Saint Vincent and the Grenadines;VEN:Venezuela, Bolivarian Republic of
VGB:Virgin Islands, British;VIR:Virgin Islands, U.S.;VIR:United States Virgin Islands;VNM:Viet Nam
"""


def plain_name(name: str) -> str:
    """What two spellings of a country's name have in common."""
    letters = unicodedata.normalize("NFKD", name).casefold().replace("&", " and ")
    kept = "".join(char if char.isalnum() else " " for char in letters if not unicodedata.combining(char))
    words = ["saint" if word == "st" else word for word in kept.split()]
    return " ".join(word for word in words if word != "the")


def _read(text: str) -> dict[str, str]:
    entries = (entry.split(":") for line in text.split("\n") for entry in line.split(";") if entry)
    return {plain_name(name): code for code, name in entries}


ALPHA3_BY_NAME = _read(_OTHER_SPELLINGS) | _read(_NAMES)
