#!/usr/bin/env python3
"""Writes the rule tasks of examples/demo/ (open answers, decided by a rule or a fact).

Every word list below was written by hand for this project. The script draws
with fixed seeds and its own Fisher-Yates shuffle, so that running it again
rewrites the same files byte for byte, whatever the Python version:

    python3 examples/demo/make_rule_tasks.py            # beside this script
    python3 examples/demo/make_rule_tasks.py OUT_DIR    # somewhere else

It needs Python 3.8 or later and nothing beyond the standard library.
"""

import json
import os
import sys

TEMPLATE = "Q: {input}\nA: {output}\n\n"
SHOTS = 10
TRAIN = 100
TEST = 100

# Everyday words, none of them a proper noun, spread over the alphabet.
WORDS = """
acorn amber anchor angle apple apron arrow artist attic autumn
badge bagel bamboo barrel basket beacon blanket bottle breeze bridge
cabin camera candle canyon carpet castle chimney circle copper cotton
dagger dancer daylight desert diamond dinner dolphin donkey dragon drawer
eager eagle early easel echo elbow ember empty engine evening
fabric falcon farmer feather fence fiddle finger forest fossil fountain
galaxy garden garlic gather gentle ginger glacier glove granite guitar
habit hammer harbor harvest hazel helmet honest honey hunter hurry
icicle idea igloo import inch infant insect invite island ivory
jacket jaguar jelly jewel jigsaw joiner journey judge juggle jungle
kennel kernel kettle kidney kingdom kitchen kite kitten knight knot
ladder lantern laundry leather lemon letter lizard lobster lonely lumber
magnet mango marble market meadow mellow mirror monkey muffin museum
napkin narrow needle nephew nickel noble noodle north notice nugget
oatmeal object ocean office olive onion orange orbit otter oven
paddle palace parrot pebble pencil pepper picnic pillow pocket pumpkin
quarrel quarry quartz queen quench query quick quiet quilt quiver
rabbit raccoon radish raven ribbon river rocket rough rubber runner
saddle salmon sandal scarf shadow silent silver spider summer sunset
table talent teapot temple thunder ticket timber tomato tunnel turtle
udder ugly umbrella uncle under uniform upper urban useful utensil
vacuum valley vanilla velvet vessel village vinegar violin visit voyage
waffle wagon walnut wander warm water whisper window winter wizard
yacht yard yarn year yeast yellow yield yogurt young youth
zebra zenith zero zigzag zinc zipper zone zoology
"""

# verb:past. Verbs with two common past forms (learn, burn, hang, shine ...)
# and verbs with a different American spelling (travel) are left out.
PAST = """
arise:arose awake:awoke bear:bore become:became begin:began bend:bent bind:bound bite:bit bleed:bled
blow:blew break:broke breed:bred bring:brought build:built burst:burst buy:bought cast:cast catch:caught
choose:chose cling:clung come:came cost:cost creep:crept cut:cut deal:dealt dig:dug do:did draw:drew
drink:drank drive:drove eat:ate fall:fell feed:fed feel:felt fight:fought find:found flee:fled
fling:flung fly:flew forbid:forbade forget:forgot forgive:forgave freeze:froze get:got give:gave go:went
grind:ground grow:grew have:had hear:heard hide:hid hit:hit hold:held hurt:hurt keep:kept know:knew
lay:laid lead:led leave:left lend:lent let:let lose:lost make:made mean:meant meet:met mistake:mistook
overcome:overcame pay:paid put:put read:read ride:rode ring:rang rise:rose run:ran say:said see:saw
seek:sought sell:sold send:sent set:set shake:shook shoot:shot shrink:shrank shut:shut sing:sang
sink:sank sit:sat sleep:slept slide:slid speak:spoke spend:spent spin:spun split:split spread:spread
stand:stood steal:stole stick:stuck sting:stung strike:struck swear:swore sweep:swept swim:swam
swing:swung take:took teach:taught tear:tore tell:told think:thought throw:threw understand:understood
wear:wore weave:wove weep:wept win:won withdraw:withdrew write:wrote
admire:admired agree:agreed allow:allowed answer:answered arrive:arrived ask:asked bake:baked beg:begged
believe:believed boil:boiled borrow:borrowed breathe:breathed brush:brushed bury:buried call:called
carry:carried chase:chased clap:clapped clean:cleaned climb:climbed close:closed cook:cooked copy:copied
cough:coughed count:counted cry:cried dance:danced decide:decided deny:denied drag:dragged dry:dried
enjoy:enjoyed explain:explained fail:failed fry:fried grab:grabbed hope:hoped hug:hugged hurry:hurried
jog:jogged jump:jumped kick:kicked knock:knocked laugh:laughed like:liked listen:listened live:lived
look:looked marry:married mix:mixed nod:nodded notice:noticed obey:obeyed occur:occurred offer:offered
open:opened paint:painted plan:planned play:played prefer:preferred push:pushed rain:rained refer:referred
reply:replied rob:robbed sail:sailed scream:screamed smile:smiled stay:stayed stop:stopped study:studied
talk:talked taste:tasted tie:tied try:tried visit:visited wait:waited walk:walked wash:washed watch:watched
arrest:arrested cheat:cheated fix:fixed greet:greeted miss:missed pray:prayed whisper:whispered worry:worried yawn:yawned
"""

# place:capital. Sovereign countries, US states, Canadian provinces and
# territories, Australian states and the Northern Territory, German states.
# Left out: Georgia (a country and a state), places whose capital is disputed,
# split or lately moved, and city states. Names are plain ASCII.
CAPITALS = """
Afghanistan:Kabul;Albania:Tirana;Algeria:Algiers;Angola:Luanda;Argentina:Buenos Aires;Armenia:Yerevan;
Australia:Canberra;Austria:Vienna;Azerbaijan:Baku;Bahamas:Nassau;Bahrain:Manama;Bangladesh:Dhaka;
Barbados:Bridgetown;Belarus:Minsk;Belgium:Brussels;Belize:Belmopan;Bhutan:Thimphu;Botswana:Gaborone;
Brazil:Brasilia;Bulgaria:Sofia;Cambodia:Phnom Penh;Cameroon:Yaounde;Canada:Ottawa;Chad:N'Djamena;
Chile:Santiago;China:Beijing;Colombia:Bogota;Costa Rica:San Jose;Croatia:Zagreb;Cuba:Havana;
Cyprus:Nicosia;Czech Republic:Prague;Denmark:Copenhagen;Dominican Republic:Santo Domingo;Ecuador:Quito;
Egypt:Cairo;El Salvador:San Salvador;Eritrea:Asmara;Estonia:Tallinn;Ethiopia:Addis Ababa;Fiji:Suva;
Finland:Helsinki;France:Paris;Gabon:Libreville;Germany:Berlin;Ghana:Accra;Greece:Athens;
Guatemala:Guatemala City;Guyana:Georgetown;Haiti:Port-au-Prince;Honduras:Tegucigalpa;Hungary:Budapest;
Iceland:Reykjavik;India:New Delhi;Iran:Tehran;Iraq:Baghdad;Ireland:Dublin;Italy:Rome;Jamaica:Kingston;
Japan:Tokyo;Jordan:Amman;Kazakhstan:Astana;Kenya:Nairobi;Kuwait:Kuwait City;Kyrgyzstan:Bishkek;
Laos:Vientiane;Latvia:Riga;Lebanon:Beirut;Liberia:Monrovia;Libya:Tripoli;Lithuania:Vilnius;
Madagascar:Antananarivo;Malawi:Lilongwe;Mali:Bamako;Malta:Valletta;Mauritania:Nouakchott;
Mexico:Mexico City;Moldova:Chisinau;Mongolia:Ulaanbaatar;Montenegro:Podgorica;Morocco:Rabat;
Mozambique:Maputo;Namibia:Windhoek;Nepal:Kathmandu;Netherlands:Amsterdam;New Zealand:Wellington;
Nicaragua:Managua;Niger:Niamey;Nigeria:Abuja;North Korea:Pyongyang;Norway:Oslo;Oman:Muscat;
Pakistan:Islamabad;Papua New Guinea:Port Moresby;Paraguay:Asuncion;Peru:Lima;Philippines:Manila;
Poland:Warsaw;Portugal:Lisbon;Qatar:Doha;Romania:Bucharest;Russia:Moscow;Rwanda:Kigali;
Saudi Arabia:Riyadh;Senegal:Dakar;Serbia:Belgrade;Sierra Leone:Freetown;Slovakia:Bratislava;
Slovenia:Ljubljana;Somalia:Mogadishu;South Korea:Seoul;Spain:Madrid;Sudan:Khartoum;Sweden:Stockholm;
Switzerland:Bern;Syria:Damascus;Thailand:Bangkok;Tunisia:Tunis;Turkey:Ankara;Uganda:Kampala;
Ukraine:Kyiv;United Kingdom:London;Uruguay:Montevideo;Uzbekistan:Tashkent;Venezuela:Caracas;
Vietnam:Hanoi;Zambia:Lusaka;Zimbabwe:Harare;
Alabama:Montgomery;Alaska:Juneau;Arizona:Phoenix;Arkansas:Little Rock;California:Sacramento;
Colorado:Denver;Connecticut:Hartford;Delaware:Dover;Florida:Tallahassee;Hawaii:Honolulu;Idaho:Boise;
Illinois:Springfield;Indiana:Indianapolis;Iowa:Des Moines;Kansas:Topeka;Kentucky:Frankfort;
Louisiana:Baton Rouge;Maine:Augusta;Maryland:Annapolis;Massachusetts:Boston;Michigan:Lansing;
Minnesota:Saint Paul;Mississippi:Jackson;Missouri:Jefferson City;Montana:Helena;Nebraska:Lincoln;
Nevada:Carson City;New Hampshire:Concord;New Jersey:Trenton;New Mexico:Santa Fe;New York:Albany;
North Carolina:Raleigh;North Dakota:Bismarck;Ohio:Columbus;Oklahoma:Oklahoma City;Oregon:Salem;
Pennsylvania:Harrisburg;Rhode Island:Providence;South Carolina:Columbia;South Dakota:Pierre;
Tennessee:Nashville;Texas:Austin;Utah:Salt Lake City;Vermont:Montpelier;Virginia:Richmond;
Washington:Olympia;West Virginia:Charleston;Wisconsin:Madison;Wyoming:Cheyenne;
Alberta:Edmonton;British Columbia:Victoria;Manitoba:Winnipeg;New Brunswick:Fredericton;
Newfoundland and Labrador:St. John's;Nova Scotia:Halifax;Nunavut:Iqaluit;Ontario:Toronto;
Prince Edward Island:Charlottetown;Quebec:Quebec City;Saskatchewan:Regina;Yukon:Whitehorse;
Northwest Territories:Yellowknife;
New South Wales:Sydney;Queensland:Brisbane;South Australia:Adelaide;Tasmania:Hobart;
Victoria:Melbourne;Western Australia:Perth;Northern Territory:Darwin;
Bavaria:Munich;Hesse:Wiesbaden;Saxony:Dresden;Thuringia:Erfurt;Lower Saxony:Hanover;Brandenburg:Potsdam
"""

# singular:plural. Nouns with two common plurals (cactus, hoof, scarf ...) are left out.
PLURAL = """
child:children man:men woman:women foot:feet tooth:teeth goose:geese mouse:mice louse:lice ox:oxen
person:people policeman:policemen fireman:firemen grandchild:grandchildren postman:postmen gentleman:gentlemen sheep:sheep deer:deer
moose:moose aircraft:aircraft series:series species:species salmon:salmon
leaf:leaves knife:knives wife:wives life:lives wolf:wolves shelf:shelves half:halves calf:calves
loaf:loaves thief:thieves elf:elves self:selves housewife:housewives midwife:midwives bookshelf:bookshelves
criterion:criteria phenomenon:phenomena analysis:analyses crisis:crises thesis:theses basis:bases
oasis:oases hypothesis:hypotheses diagnosis:diagnoses parenthesis:parentheses nucleus:nuclei
stimulus:stimuli alumnus:alumni bacterium:bacteria larva:larvae alga:algae
passer-by:passers-by mother-in-law:mothers-in-law
hero:heroes potato:potatoes tomato:tomatoes echo:echoes veto:vetoes torpedo:torpedoes
piano:pianos photo:photos radio:radios video:videos zoo:zoos kangaroo:kangaroos studio:studios
casino:casinos
roof:roofs chef:chefs cliff:cliffs belief:beliefs proof:proofs chief:chiefs reef:reefs giraffe:giraffes
baby:babies city:cities lady:ladies party:parties story:stories berry:berries family:families fly:flies
puppy:puppies cherry:cherries country:countries army:armies body:bodies copy:copies diary:diaries
enemy:enemies fairy:fairies factory:factories library:libraries penny:pennies pony:ponies spy:spies
butterfly:butterflies university:universities
boy:boys day:days key:keys toy:toys monkey:monkeys donkey:donkeys turkey:turkeys valley:valleys
journey:journeys chimney:chimneys essay:essays tray:trays
box:boxes fox:foxes tax:taxes bus:buses gas:gases glass:glasses class:classes dress:dresses kiss:kisses
boss:bosses church:churches match:matches witch:witches watch:watches beach:beaches peach:peaches
bench:benches branch:branches brush:brushes dish:dishes wish:wishes bush:bushes eyelash:eyelashes
quiz:quizzes waltz:waltzes virus:viruses walrus:walruses circus:circuses lens:lenses stomach:stomachs
monarch:monarchs
house:houses horse:horses nose:noses rose:roses judge:judges bridge:bridges page:pages prize:prizes
face:faces voice:voices
apple:apples bird:birds book:books car:cars cat:cats chair:chairs cloud:clouds coin:coins cup:cups
dog:dogs door:doors egg:eggs engine:engines finger:fingers flower:flowers friend:friends garden:gardens
girl:girls hand:hands hat:hats island:islands lamp:lamps letter:letters mountain:mountains
needle:needles orange:oranges pencil:pencils planet:planets queen:queens river:rivers road:roads
school:schools ship:ships shoe:shoes star:stars teacher:teachers tiger:tigers train:trains tree:trees
umbrella:umbrellas window:windows year:years bottle:bottles candle:candles dragon:dragons
pillow:pillows spider:spiders
"""

# Opposites and counterparts, asked in both directions. Both directions of a pair stay on the
# same side of the train/test split, and no word is in two pairs.
ANTONYMS = """
hot:cold big:small up:down left:right in:out open:closed day:night black:white true:false
happy:sad rich:poor young:old fast:slow high:low long:short thick:thin wide:narrow heavy:light
hard:soft wet:dry clean:dirty full:empty early:late first:last good:bad love:hate win:lose
buy:sell push:pull give:take come:go start:finish remember:forget ask:answer
arrive:depart rise:fall live:die laugh:cry accept:reject increase:decrease expand:contract
attack:defend build:destroy lend:borrow succeed:fail north:south east:west above:below before:after
always:never all:none more:less many:few yes:no on:off inside:outside front:back top:bottom
near:far here:there boy:girl man:woman king:queen uncle:aunt son:daughter husband:wife mother:father
brother:sister teacher:student friend:enemy hero:villain victory:defeat war:peace
heaven:hell angel:devil birth:death past:future summer:winter morning:evening sunrise:sunset
strong:weak brave:cowardly loud:quiet smooth:rough sharp:blunt deep:shallow sweet:sour tight:loose
alive:dead asleep:awake guilty:innocent public:private ancient:modern simple:complex
cheap:expensive safe:dangerous polite:rude generous:stingy wise:foolish
optimist:pessimist maximum:minimum majority:minority
"""


class Rng:
    """A 64-bit linear congruential generator: the same draws on every Python."""

    def __init__(self, seed):
        self.state = (seed * 2654435761 + 12345) % 2**64
        for _ in range(8):
            self.below(2)

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


def words():
    out = WORDS.split()
    if len(set(out)) != len(out):
        raise SystemExit("WORDS repeats: %s" % sorted({w for w in out if out.count(w) > 1}))
    return out


def pairs(text, separator=None):
    items = [p.strip() for p in text.split(separator)]
    out = [tuple(p.split(":")) for p in items if p]
    keys = [k for k, _ in out]
    if len(set(keys)) != len(keys):
        raise SystemExit("repeated: %s" % sorted({k for k in keys if keys.count(k) > 1}))
    return out


def split(rng, items):
    items = rng.shuffled(items)
    if len(items) < TRAIN + TEST:
        raise SystemExit("only %d items" % len(items))
    return items[:TRAIN], items[TRAIN:TRAIN + TEST]


def choose_first_of_three():
    rng = Rng(1)
    firsts = rng.shuffled(words())[:TRAIN + TEST]  # no answer is asked for twice
    items = []
    for first in firsts:
        others = rng.shuffled(w for w in words() if w != first)[:2]
        items.append((", ".join([first] + others), first))
    return split(rng, items)


def lowercase_first_letter():
    return split(Rng(2), [(w.capitalize(), w[0]) for w in words()])


def capitalize_word():
    return split(Rng(3), [(w, w.capitalize()) for w in words()])


def past_tense():
    return split(Rng(4), pairs(PAST))


def capitals():
    return split(Rng(5), pairs(CAPITALS, ";"))


def plural():
    return split(Rng(6), pairs(PLURAL))


def antonym():
    rng = Rng(7)
    both = pairs(ANTONYMS)
    flat = [w for pair in both for w in pair]
    if len(set(flat)) != len(flat):
        raise SystemExit("in two pairs: %s" % sorted({w for w in flat if flat.count(w) > 1}))
    both = rng.shuffled(both)
    half = TRAIN // 2
    if len(both) < half + TEST // 2:
        raise SystemExit("only %d pairs of opposites" % len(both))

    def directions(chosen):
        return rng.shuffled([(a, b) for a, b in chosen] + [(b, a) for a, b in chosen])

    return directions(both[:half]), directions(both[half:half + TEST // 2])


TASKS = [choose_first_of_three, lowercase_first_letter, capitalize_word,
         past_tense, capitals, plural, antonym]


def task_text(name, train, test):
    def row(item):
        return '    {"input": %s, "output": %s}' % (json.dumps(item[0]), json.dumps(item[1]))

    return ('{\n  "name": %s,\n  "template": %s,\n  "shots": %d,\n'
            '  "train": [\n%s\n  ],\n  "test": [\n%s\n  ]\n}\n'
            % (json.dumps(name), json.dumps(TEMPLATE), SHOTS,
               ",\n".join(map(row, train)), ",\n".join(map(row, test))))


def main():
    out_dir = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for make in TASKS:
        train, test = make()
        path = os.path.join(out_dir, make.__name__ + ".json")
        with open(path, "w", encoding="ascii", newline="\n") as f:
            f.write(task_text(make.__name__, train, test))
        print("%-28s %d train, %d test" % (os.path.basename(path), len(train), len(test)))


if __name__ == "__main__":
    main()
