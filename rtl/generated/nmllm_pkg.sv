// Constants of the chip nano, written by neuromorphic_llm.rtl.package; do not edit.
// verilator lint_off UNUSEDPARAM
package nmllm_pkg;
  parameter int unsigned CLOCK_HZ = 500000000;
  parameter int unsigned MESH_WIDTH = 6;
  parameter int unsigned MESH_HEIGHT = 4;
  parameter int unsigned VECTOR_PERIOD = 5;
  parameter int unsigned VECTOR_OFFSET = 3;
  parameter int unsigned CROSSBARS_PER_TILE = 16;
  parameter int unsigned ROWS = 64;
  parameter int unsigned COLUMNS = 64;
  parameter int unsigned CELL_BITS = 4;
  parameter int unsigned SLICES = 2;
  parameter int unsigned ACTIVE_ROWS = 16;
  parameter int unsigned COLUMN_MUX = 4;
  parameter int unsigned CONVERSION_CYCLES = 1;
  parameter int unsigned READ_LATENCY = 2;
  parameter int unsigned OUTPUT_LATENCY = 8;
  parameter int unsigned GATE_LATENCY = 12;
  parameter int unsigned ARGMAX_LANES = 8;
  parameter int unsigned MAX_PHASES = 32;
  parameter int unsigned ACCUMULATOR_BITS = 32;
  parameter int unsigned VECTOR_LANES = 8;
  parameter int unsigned VECTOR_LATENCY = 4;
  parameter int unsigned NORM_LATENCY = 88;
  parameter int unsigned ATTENTION_ENGINES = 2;
  parameter int unsigned KEY_LANES = 16;
  parameter int unsigned SOFTMAX_LANES = 8;
  parameter int unsigned ATTEND_LATENCY = 24;
  parameter int unsigned KV_BYTES_PER_ENGINE = 65536;
  parameter int unsigned VECTOR_MEMORY_BYTES = 32768;
  parameter int unsigned FIFO_DEPTH = 4;
  parameter int unsigned EVENTS_PER_FLIT = 4;
  parameter int unsigned FLIT_BITS = 64;
  parameter int unsigned HOST_LATENCY = 32;
  parameter int unsigned DRAM_LATENCY = 50;
  parameter int unsigned DRAM_BYTES_PER_CYCLE = 16;

  parameter int unsigned TILES = 24;
  parameter int unsigned TILE_BITS = 5;
  parameter int unsigned ROUTES = 512;
  parameter int unsigned ROUTE_BITS = 9;
  parameter int unsigned ROW_BLOCKS = 8;
  parameter int unsigned TILE_INPUTS = 512;
  parameter int unsigned TILE_COLUMNS = 512;
  parameter int unsigned SEQUENCES = 64;
  parameter int unsigned SEQUENCE_BITS = 6;
  parameter int unsigned GATED = 0;
  parameter int unsigned ROUTERS_GATED = 0;
  parameter int unsigned WAKE_CYCLES = 0;
  parameter int unsigned WAKE_BITS = 1;
  parameter int unsigned CONVERTER_BITS = 9;
  parameter int unsigned HIGH_BITS = 9;
  parameter int unsigned REREAD = 0;
  parameter int unsigned MEMBRANE = 0;
  parameter int unsigned REPEATS = 0;
  parameter int unsigned STEPS = 0;
  parameter int unsigned RANGE_BITS = 1;
  parameter int unsigned FLIT_EVENTS = 4;
  parameter int unsigned STAMP_BITS = 6;
  parameter int unsigned ELEMENT_ENCODER = 0;
  parameter int unsigned LEAST_FIRST = 0;
  parameter int unsigned HEAD_LANES = 1;
  parameter int unsigned MAXIMUM_WRITTEN = 0;

  // docs/reference/rtl/index.md says what tag and payload hold for each kind of flit.
  typedef struct packed {
    logic [ROUTE_BITS-1:0] route;
    logic flag;
    logic [15:0] tag;
    logic [63:0] payload;
  } flit_t;

  // Spike codes (nmllm_encoder).
  typedef enum logic [1:0] {
    SIGNED_DIGIT, RATE, FIRST_SPIKE, BIT_PLANES
  } code_t;

  // An instruction of a vector tile (nmllm_sequencer).
  typedef enum logic [3:0] {
    RECEIVE_RESIDUAL, NORM, ENCODE, RECEIVE, ROPE, KV_WRITE, ATTEND, ADD, SEND, SEND_TOKEN
  } operation_t;
  typedef struct packed {
    logic source;
    logic [15:0] route;
    logic [15:0] base;
    logic [14:0] size;
    logic [3:0] operation;
  } instruction_t;

  // Orders to the tiles that have work next (nmllm_tile_switch).
  typedef struct packed {
    logic stage;
    logic site;
    logic [3:0] number;
  } order_t;

  // round(2^15 * 2^(-i/256))
  parameter logic [15:0] EXP2 [256] = '{
    16'd32768, 16'd32679, 16'd32591, 16'd32503, 16'd32415, 16'd32327, 16'd32240, 16'd32153, 16'd32066, 16'd31979, 16'd31893, 16'd31806, 16'd31720, 16'd31635, 16'd31549, 16'd31464,
    16'd31379, 16'd31294, 16'd31209, 16'd31125, 16'd31041, 16'd30957, 16'd30873, 16'd30790, 16'd30706, 16'd30623, 16'd30541, 16'd30458, 16'd30376, 16'd30293, 16'd30212, 16'd30130,
    16'd30048, 16'd29967, 16'd29886, 16'd29805, 16'd29725, 16'd29644, 16'd29564, 16'd29484, 16'd29405, 16'd29325, 16'd29246, 16'd29167, 16'd29088, 16'd29009, 16'd28931, 16'd28852,
    16'd28774, 16'd28697, 16'd28619, 16'd28542, 16'd28464, 16'd28388, 16'd28311, 16'd28234, 16'd28158, 16'd28082, 16'd28006, 16'd27930, 16'd27855, 16'd27779, 16'd27704, 16'd27629,
    16'd27554, 16'd27480, 16'd27406, 16'd27332, 16'd27258, 16'd27184, 16'd27110, 16'd27037, 16'd26964, 16'd26891, 16'd26818, 16'd26746, 16'd26674, 16'd26601, 16'd26530, 16'd26458,
    16'd26386, 16'd26315, 16'd26244, 16'd26173, 16'd26102, 16'd26031, 16'd25961, 16'd25891, 16'd25821, 16'd25751, 16'd25681, 16'd25612, 16'd25543, 16'd25474, 16'd25405, 16'd25336,
    16'd25268, 16'd25199, 16'd25131, 16'd25063, 16'd24995, 16'd24928, 16'd24860, 16'd24793, 16'd24726, 16'd24659, 16'd24593, 16'd24526, 16'd24460, 16'd24394, 16'd24328, 16'd24262,
    16'd24196, 16'd24131, 16'd24066, 16'd24001, 16'd23936, 16'd23871, 16'd23806, 16'd23742, 16'd23678, 16'd23614, 16'd23550, 16'd23486, 16'd23423, 16'd23359, 16'd23296, 16'd23233,
    16'd23170, 16'd23108, 16'd23045, 16'd22983, 16'd22921, 16'd22859, 16'd22797, 16'd22735, 16'd22674, 16'd22613, 16'd22552, 16'd22491, 16'd22430, 16'd22369, 16'd22309, 16'd22248,
    16'd22188, 16'd22128, 16'd22068, 16'd22009, 16'd21949, 16'd21890, 16'd21831, 16'd21772, 16'd21713, 16'd21654, 16'd21595, 16'd21537, 16'd21479, 16'd21421, 16'd21363, 16'd21305,
    16'd21247, 16'd21190, 16'd21133, 16'd21076, 16'd21019, 16'd20962, 16'd20905, 16'd20849, 16'd20792, 16'd20736, 16'd20680, 16'd20624, 16'd20568, 16'd20513, 16'd20457, 16'd20402,
    16'd20347, 16'd20292, 16'd20237, 16'd20182, 16'd20127, 16'd20073, 16'd20019, 16'd19965, 16'd19911, 16'd19857, 16'd19803, 16'd19750, 16'd19696, 16'd19643, 16'd19590, 16'd19537,
    16'd19484, 16'd19431, 16'd19379, 16'd19326, 16'd19274, 16'd19222, 16'd19170, 16'd19118, 16'd19066, 16'd19015, 16'd18963, 16'd18912, 16'd18861, 16'd18810, 16'd18759, 16'd18708,
    16'd18658, 16'd18607, 16'd18557, 16'd18507, 16'd18457, 16'd18407, 16'd18357, 16'd18308, 16'd18258, 16'd18209, 16'd18160, 16'd18110, 16'd18061, 16'd18013, 16'd17964, 16'd17915,
    16'd17867, 16'd17819, 16'd17770, 16'd17722, 16'd17674, 16'd17627, 16'd17579, 16'd17531, 16'd17484, 16'd17437, 16'd17390, 16'd17343, 16'd17296, 16'd17249, 16'd17202, 16'd17156,
    16'd17109, 16'd17063, 16'd17017, 16'd16971, 16'd16925, 16'd16879, 16'd16834, 16'd16788, 16'd16743, 16'd16697, 16'd16652, 16'd16607, 16'd16562, 16'd16518, 16'd16473, 16'd16428
  };
  // round(2^15 / (1 + exp(-i/16)))
  parameter logic [15:0] SIG [257] = '{
    16'd16384, 16'd16896, 16'd17407, 16'd17916, 16'd18421, 16'd18923, 16'd19420, 16'd19912, 16'd20397, 16'd20874, 16'd21344, 16'd21804, 16'd22255, 16'd22696, 16'd23127, 16'd23547,
    16'd23955, 16'd24352, 16'd24737, 16'd25110, 16'd25471, 16'd25819, 16'd26155, 16'd26479, 16'd26790, 16'd27090, 16'd27377, 16'd27653, 16'd27917, 16'd28169, 16'd28411, 16'd28642,
    16'd28862, 16'd29072, 16'd29272, 16'd29462, 16'd29644, 16'd29816, 16'd29979, 16'd30135, 16'd30282, 16'd30422, 16'd30555, 16'd30680, 16'd30799, 16'd30912, 16'd31018, 16'd31119,
    16'd31214, 16'd31304, 16'd31389, 16'd31469, 16'd31545, 16'd31616, 16'd31684, 16'd31747, 16'd31807, 16'd31864, 16'd31917, 16'd31968, 16'd32015, 16'd32060, 16'd32102, 16'd32141,
    16'd32179, 16'd32214, 16'd32247, 16'd32278, 16'd32307, 16'd32335, 16'd32361, 16'd32385, 16'd32408, 16'd32430, 16'd32450, 16'd32469, 16'd32487, 16'd32504, 16'd32520, 16'd32535,
    16'd32549, 16'd32562, 16'd32574, 16'd32586, 16'd32597, 16'd32607, 16'd32617, 16'd32626, 16'd32635, 16'd32643, 16'd32650, 16'd32657, 16'd32664, 16'd32670, 16'd32676, 16'd32682,
    16'd32687, 16'd32692, 16'd32696, 16'd32701, 16'd32705, 16'd32709, 16'd32712, 16'd32716, 16'd32719, 16'd32722, 16'd32725, 16'd32727, 16'd32730, 16'd32732, 16'd32734, 16'd32736,
    16'd32738, 16'd32740, 16'd32742, 16'd32743, 16'd32745, 16'd32746, 16'd32747, 16'd32749, 16'd32750, 16'd32751, 16'd32752, 16'd32753, 16'd32754, 16'd32755, 16'd32756, 16'd32756,
    16'd32757, 16'd32758, 16'd32758, 16'd32759, 16'd32759, 16'd32760, 16'd32760, 16'd32761, 16'd32761, 16'd32762, 16'd32762, 16'd32762, 16'd32763, 16'd32763, 16'd32763, 16'd32764,
    16'd32764, 16'd32764, 16'd32764, 16'd32765, 16'd32765, 16'd32765, 16'd32765, 16'd32765, 16'd32766, 16'd32766, 16'd32766, 16'd32766, 16'd32766, 16'd32766, 16'd32766, 16'd32766,
    16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767, 16'd32767,
    16'd32767, 16'd32767, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768,
    16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768,
    16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768,
    16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768,
    16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768, 16'd32768,
    16'd32768
  };
  // Levels of the slots of a stamped train
  parameter logic [15:0] LEVELS [64] = '{
    16'd1, 16'd2, 16'd4, 16'd8, 16'd16, 16'd32, 16'd64, 16'd128, 16'd256, 16'd512, 16'd1024, 16'd2048, 16'd4096, 16'd8192, 16'd0, 16'd0,
    16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0,
    16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0,
    16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0, 16'd0
  };
endpackage
// verilator lint_on UNUSEDPARAM
