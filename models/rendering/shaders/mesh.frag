#version 330 core

// Two-sided matte shading: a sky, a key light beside the camera, a faint highlight. Metalness is left out on
// purpose: without an environment to reflect, a metal would be black. White under full light comes out as white.

struct Material {
    vec4 base_color_factor;
#ifdef HAS_BASE_COLOR_TEX
    sampler2D base_color_texture;
#endif
};

uniform Material material;
uniform vec3 cam_pos;
uniform mat4 V;

in vec3 world_position;
in vec3 world_normal;
#ifdef TEXCOORD_0_LOC
in vec2 uv;
#endif
#ifdef COLOR_0_LOC
in vec3 vertex_colour;
#endif

out vec4 frag_color;

const float GAMMA = 2.2;
const vec3 SKY = vec3(0.52, 0.53, 0.55);
const vec3 GROUND = vec3(0.26, 0.25, 0.24);
const vec3 KEY = vec3(0.62, 0.60, 0.58);
const float HIGHLIGHT = 0.06;

void main()
{
    vec3 albedo = material.base_color_factor.rgb;
#ifdef HAS_BASE_COLOR_TEX
    vec4 texel = texture(material.base_color_texture, uv);
    if (texel.a < 0.5) discard;
    albedo *= pow(texel.rgb, vec3(GAMMA));
#endif
#ifdef COLOR_0_LOC
    albedo *= pow(max(vertex_colour, 0.0), vec3(GAMMA));  // at rims it is extrapolated, below 0 where colours are dark
#endif

    vec3 to_camera = normalize(cam_pos - world_position);
    vec3 normal = normalize(world_normal);
    if (dot(normal, to_camera) < 0.0) normal = -normal;

    vec3 camera_right = vec3(V[0][0], V[1][0], V[2][0]);
    vec3 to_key = normalize(to_camera + vec3(0.0, 0.7, 0.0) - 0.5 * camera_right);
    float key = max(dot(normal, to_key), 0.0);
    float highlight = pow(max(dot(normal, normalize(to_key + to_camera)), 0.0), 24.0);

    vec3 sky = mix(GROUND, SKY, 0.5 + 0.5 * normal.y);
    vec3 colour = albedo * (sky + KEY * key) + HIGHLIGHT * highlight;
    frag_color = vec4(pow(min(colour, 1.0), vec3(1.0 / GAMMA)), 1.0);
}
